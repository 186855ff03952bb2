//! What runs in a drone: the git credential helper and the `gh` wrapper.
