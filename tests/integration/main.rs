//! The program as its user meets it: one binary, so that the library is linked once.
//!
//! Most tests need no training: rows that carry a `prediction` column are mixed, scored and aggregated. What trains is in
//! `engine.rs`, with models of a few hundred parameters.

mod aggregate;
#[cfg(feature = "api")]
mod api;
mod bad_input;
mod browser;
#[cfg(feature = "s3")]
mod bucket;
mod command;
mod device;
#[cfg(feature = "candle")]
mod engine;
mod export;
mod gc;
mod history;
#[cfg(feature = "hub")]
mod hub;
mod incremental;
#[cfg(feature = "candle")]
mod judged;
mod language;
mod lease;
mod lock;
#[cfg(feature = "candle")]
mod models;
mod now;
mod paper;
#[cfg(feature = "candle")]
mod predict;
mod project;
mod properties;
mod report;
mod robust;
mod scorers;
mod shared;
mod snapshot;
mod upkeep;
mod words;
