//! Skeleton.
pub mod config;
pub mod limits;
