//! A repository's devcontainer.json, and the CLI that runs it.
