//! The train kind.

use super::{Context, Input, Stage};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::Fields;

crate::settings! {
    /// Everything that can change a byte of the output of a train stage.
    pub struct TrainRecipe {}
}

/// Reads the settings of a train stage.
pub fn decode(_fields: &mut Fields<'_>, _problems: &mut Problems) -> Option<Stage> {
    None
}

/// Mistakes that would show themselves late.
pub fn check(_recipe: &TrainRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Does the work.
pub fn execute(_recipe: &TrainRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
