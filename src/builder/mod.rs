//! Builds of hatchery's own: images that are made of a stranger's code.
//!
//! A `RUN` line is that. In dockerd's builder it would share its cache, its network and the server's
//! memory with all other builds; so it runs in a `BuildKit` that is the drone's alone, with the
//! drone's limits and network, and what comes out of it is loaded into Docker.
//!
//! - [`choice`]: who builds what;
//! - [`build`]: one build, parsed and judged; [`project`]: those of a compose project;
//! - [`own`]: the drone's builder at work; [`archive`]: its images, looked at on their way.

pub mod archive;
pub mod build;
pub mod choice;
pub mod own;
pub mod project;

pub use build::Build;
pub use own::Builder;
