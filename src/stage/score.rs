//! The score kind.

use super::{Context, Input, Stage};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::Fields;

crate::settings! {
    /// Everything that can change a byte of the output of a score stage.
    pub struct ScoreRecipe {}
}

/// Reads the settings of a score stage.
pub fn decode(_fields: &mut Fields<'_>, _problems: &mut Problems) -> Option<Vec<Stage>> {
    None
}

/// Mistakes that would show themselves late.
pub fn check(_recipe: &ScoreRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Does the work.
pub fn execute(_recipe: &ScoreRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
