//! Reports: tables as CSV, JSON, Markdown and LaTeX, figures as SVG, PNG and PDF, graphs as SVG, all of it as one HTML page,
//! and what other programs read.
//!
//! Pure: values in, bytes out. Knows nothing of stages, files or scorers.

pub mod export;
pub mod figure;
pub mod graph;
pub mod layout;
pub mod page;
pub mod table;
