//! The tailnet: joining, greeting and leaving.
