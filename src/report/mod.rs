//! Reports: statistics of groups, tables as CSV, JSON and Markdown, and figures as SVG and PNG.
//!
//! Pure: values in, bytes out. Knows nothing of stages, files or scorers.

pub mod figure;
pub mod statistics;
pub mod table;
