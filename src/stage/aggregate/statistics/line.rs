//! A line of the table of statistics.

use super::recipe::StatisticRecipe;
use crate::report::table::{Cell, Column, Table};

/// The columns of the table beside those of the groups, which stand behind the first two.
pub const COLUMNS: [&str; 15] = [
    "statistic",
    "kind",
    "metric",
    "x",
    "y",
    "value",
    "difference",
    "p",
    "p_holm",
    "ci_low",
    "ci_high",
    "count",
    "groups",
    "draws",
    "undefined",
];

/// One value of a statistic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    /// The values of the groups' columns.
    pub group: Vec<Cell>,
    /// The metric that a test is of.
    pub metric: Option<String>,
    /// One side: a column, a rater, a system.
    pub x: Option<String>,
    /// The other.
    pub y: Option<String>,
    /// The value; none where it is not defined.
    pub value: Option<f64>,
    /// Of a test: the mean of `x` less that of `y`.
    pub difference: Option<f64>,
    /// The p-value.
    pub p: Option<f64>,
    /// The same by Holm, over all lines of the statistic.
    pub p_holm: Option<f64>,
    /// The confidence interval.
    pub interval: Option<(f64, f64)>,
    /// Rows, pairs of rows, or items that the value is of.
    pub count: usize,
    /// Groups that the value is a mean over, or raters that it is of.
    pub groups: Option<usize>,
    /// Random samples or draws.
    pub draws: Option<u64>,
    /// Groups or samples for which it is not defined; items that were left out.
    pub undefined: Option<usize>,
}

impl Line {
    /// The cells of [`COLUMNS`] behind the first two.
    fn cells(self) -> [Cell; 13] {
        let text = |text: Option<String>| text.map_or(Cell::Null, Cell::Text);
        let number = |number: Option<f64>| number.map_or(Cell::Null, Cell::Float);
        let count = |count: Option<usize>| {
            count.map_or(Cell::Null, |count| Cell::Int(i64::try_from(count).unwrap_or(i64::MAX)))
        };
        [
            text(self.metric),
            text(self.x),
            text(self.y),
            number(self.value),
            number(self.difference),
            number(self.p),
            number(self.p_holm),
            number(self.interval.map(|ends| ends.0)),
            number(self.interval.map(|ends| ends.1)),
            count(Some(self.count)),
            count(self.groups),
            self.draws.map_or(Cell::Null, |draws| Cell::Int(i64::try_from(draws).unwrap_or(i64::MAX))),
            count(self.undefined),
        ]
    }
}

/// The table of all statistics. A group's column is null in the lines of statistics that have no such groups.
pub(super) fn table(statistics: Vec<(&StatisticRecipe, Vec<Line>)>) -> Table {
    let mut by: Vec<&String> = Vec::new();
    for name in statistics.iter().flat_map(|(recipe, _)| &recipe.by.0) {
        if !by.contains(&name) {
            by.push(name);
        }
    }
    let names = COLUMNS[..2].iter().map(ToString::to_string).chain(by.iter().map(ToString::to_string));
    let names = names.chain(COLUMNS[2..].iter().map(ToString::to_string));
    let mut columns: Vec<Column> = names.map(|name| Column { name, cells: Vec::new() }).collect();
    for (recipe, lines) in statistics {
        let kind = recipe.kind();
        for line in lines {
            let first = [Cell::Text(recipe.name.clone()), Cell::Text(kind.clone())];
            let of_group = |name: &&String| recipe.by.0.iter().position(|own| own == *name);
            let groups = by.iter().map(|name| of_group(name).map_or(Cell::Null, |place| line.group[place].clone()));
            let cells: Vec<Cell> = first.into_iter().chain(groups).collect();
            let cells = cells.into_iter().chain(line.cells());
            columns.iter_mut().zip(cells).for_each(|(column, cell)| column.cells.push(cell));
        }
    }
    Table { columns }
}
