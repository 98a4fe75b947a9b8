//! The predict kind.

use super::{Context, Input, Stage};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::Fields;

crate::settings! {
    /// Everything that can change a byte of the output of a predict stage.
    pub struct PredictRecipe {}
}

/// Reads the settings of a predict stage.
pub fn decode(_fields: &mut Fields<'_>, _problems: &mut Problems) -> Option<Stage> {
    None
}

/// Mistakes that would show themselves late.
pub fn check(_recipe: &PredictRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Does the work.
pub fn execute(_recipe: &PredictRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
