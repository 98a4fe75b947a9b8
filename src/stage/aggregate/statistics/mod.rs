//! Named statistics of an aggregate's rows: correlations, tests between systems, agreement of raters.
//!
//! `[aggregate.NAME.statistics.STAT]` becomes a [`StatisticRecipe`], and all of them one tidy table with the columns
//! [`COLUMNS`] and those of the groups. The numbers are [`crate::statistics`]'s; this module knows which rows go into them:
//!
//! | kind | a value of |
//! |---|---|
//! | `pearson`, `spearman`, `kendall` | each `x` with each `y`, or each two of `x`; pooled, `within` groups and averaged, of `means_of` groups, of random samples (`sample`), or of raters who share items |
//! | `paired_t`, `wilcoxon`, `permutation`, `paired_bootstrap`, `mcnemar` | each metric of `x` and each two values of `compare`, or each with `to`; rows are paired by row id and the other axes |
//! | `accuracy`, `cohen_kappa` | each two `raters`, or each with `to` |
//! | `fleiss_kappa`, `krippendorff` | all `raters` |
//!
//! A missing value leaves out its row, and of a pair both; what is not defined is null, never 0.

mod agree;
mod compare;
mod correlate;
mod line;
mod raters;
mod recipe;
mod rows;
mod settings;
#[cfg(test)]
mod tests;

pub use line::COLUMNS;
pub use recipe::{StatisticRecipe, What};
pub use rows::Rows;
pub use settings::{Statistics, recipes};

use crate::report::table::{Cell, Table};
use anyhow::Context as _;
use line::Line;

/// The table of all statistics of the rows: a line for each value, in the order of the recipes, then of the groups.
pub fn tabulate(recipes: &[StatisticRecipe], rows: &Rows<'_>) -> anyhow::Result<Table> {
    let lines = |recipe| {
        let lines = lines(recipe, rows).with_context(|| format!("statistic `{}`", recipe.name))?;
        Ok((recipe, lines))
    };
    Ok(line::table(recipes.iter().map(lines).collect::<anyhow::Result<_>>()?))
}

fn lines(recipe: &StatisticRecipe, rows: &Rows<'_>) -> anyhow::Result<Vec<Line>> {
    let kept = rows.kept(recipe.filter.as_deref())?;
    let systems = match &recipe.what {
        What::Test(test) => compare::systems(test, rows, &kept)?,
        What::Correlation(_) | What::Agreement(_) => Vec::new(),
    };
    let mut lines = Vec::new();
    for (group, on) in rows.groups("by", &recipe.by, &kept)? {
        let found = match &recipe.what {
            What::Correlation(correlation) => correlate::lines(correlation, rows, &on)?,
            What::Test(test) => compare::lines(test, rows, &on, &systems)?,
            What::Agreement(agreement) => agree::lines(agreement, rows, &on)?,
        };
        let group: Vec<Cell> = group.into_iter().cloned().collect();
        lines.extend(found.into_iter().map(|line| Line { group: group.clone(), ..line }));
    }
    if matches!(recipe.what, What::Test(_)) {
        compare::adjust(&mut lines);
    }
    Ok(lines)
}
