//! Reports: tables as CSV, JSON and Markdown, figures as SVG and PNG, graphs as SVG, and all of it as one HTML page.
//!
//! Pure: values in, bytes out. Knows nothing of stages, files or scorers.

pub mod export;
pub mod figure;
pub mod graph;
pub mod layout;
pub mod page;
pub mod table;
