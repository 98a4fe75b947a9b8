//! Training.

pub mod ops;
