//! The mix kind.

use super::{Context, Input, Stage};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::Fields;

crate::settings! {
    /// Everything that can change a byte of the output of a mix stage.
    pub struct MixRecipe {}
}

/// Reads the settings of a mix stage.
pub fn decode(_fields: &mut Fields<'_>, _problems: &mut Problems) -> Option<Stage> {
    None
}

/// Mistakes that would show themselves late.
pub fn check(_recipe: &MixRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Does the work.
pub fn execute(_recipe: &MixRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}

impl MixRecipe {
    /// Whether some rows go to the validation split.
    pub fn has_validation(&self) -> bool {
        true
    }
}
