//! What a repository asks for, held against what a drone may have.

pub mod base;
pub mod build;
pub mod compose;
pub mod features;
pub mod from;
pub mod gate;
pub mod images;
pub mod local_feature;
pub mod metadata;
pub mod mounts;
pub mod policy;
pub mod properties;
pub mod run_args;
pub mod verdict;
pub mod words;
pub mod workspace;
