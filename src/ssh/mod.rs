//! Who may log in to a drone, and how a drone proves who it is.
