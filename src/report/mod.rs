//! Reports: tables as CSV, JSON and Markdown, figures as SVG, PNG and PDF, and graphs as SVG.
//!
//! Pure: values in, bytes out. Knows nothing of stages, files or scorers.

pub mod figure;
pub mod graph;
pub mod table;
pub mod tidy;
