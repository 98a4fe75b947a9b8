//! What earlier attempts at a stage's work left: where an unfinished one stood, and answers to single rows.
//!
//! A help, never a duty: what cannot be read or written costs time, not the stage.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where it lies. A forced run and an audit have neither: they do everything again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// A folder for where the work stands, of this key alone; it goes when the work is done. It may not exist yet.
    pub unfinished: Option<PathBuf>,
    /// A folder for answers to single rows, of all work that differs in its rows only. It may not exist yet.
    pub rows: Option<PathBuf>,
}
