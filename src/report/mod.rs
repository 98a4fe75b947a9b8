//! Reports: tables as CSV, JSON and Markdown, figures as SVG and PNG, and graphs as SVG.
//!
//! Pure: values in, bytes out. Knows nothing of stages, files or scorers.

pub mod export;
pub mod figure;
pub mod graph;
pub mod layout;
pub mod table;
