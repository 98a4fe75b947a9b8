//! A recipe's figures → charts of the table.

use super::group;
use super::recipe::{FigureKind, FigureRecipe};
use crate::report::figure::{Chart, Point, Scale, Series};
use crate::report::table::{Cell, Table};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;

/// The file name (without ending) and the chart of figure `number`, from 1.
pub(super) fn chart(number: usize, recipe: &FigureRecipe, table: &Table) -> anyhow::Result<(String, Chart)> {
    let FigureKind::Line = recipe.kind;
    let known = table
        .column("metric")
        .map_or(Vec::new(), |column| column.cells.iter().map(|cell| cell.text().into_owned()).collect());
    let metrics = group::select(Some(&recipe.y), &known).with_context(|| format!("figure {number}"))?;
    let mut series = Vec::new();
    for metric in &metrics {
        for (values, points) in lines_of(metric, recipe, table).with_context(|| format!("figure {number}"))? {
            // With one metric the axis names it, so that the legend need not.
            let metric = (metrics.len() > 1).then(|| metric.clone());
            let label: Vec<String> =
                metric.into_iter().chain(values.iter().map(|value| value.text().into_owned())).collect();
            series.push(Series { label: label.join(" · "), points });
        }
    }
    let chart = Chart {
        title: recipe.title.clone().unwrap_or_default(),
        x_label: recipe.x_label.clone().unwrap_or_else(|| recipe.x.clone()),
        y_label: recipe.y_label.clone().unwrap_or_else(|| match metrics.as_slice() {
            [metric] => metric.clone(),
            _ => "score".to_string(),
        }),
        scale: recipe.scale,
        legend: if metrics.len() > 1 { String::new() } else { recipe.series.0.join(" · ") },
        series,
    };
    let name = recipe.name.clone().unwrap_or_else(|| recipe.y.0.join("-"));
    Ok((format!("{number:02}-{}", file_name(&name)), chart))
}

/// The points of each line of one metric, by the values that tell the lines apart.
fn lines_of(metric: &str, recipe: &FigureRecipe, table: &Table) -> anyhow::Result<BTreeMap<Vec<Cell>, Vec<Point>>> {
    let column = |name: &str| table.column(name).with_context(|| format!("`{name}` is not in `by`"));
    let by = recipe.series.0.iter().map(|name| column(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let (metrics, x) = (column("metric")?, column(&recipe.x)?);
    let mut found: BTreeMap<Vec<Cell>, Vec<Point>> = BTreeMap::new();
    for row in (0..table.rows()).filter(|row| metrics.cells[*row].text() == metric) {
        let number = |name: &str| table.column(name).and_then(|column| column.cells[row].number());
        let Some(x) = x.cells[row].number() else {
            bail!("`{}` is {:?}: the x of a line must be a number", recipe.x, x.cells[row].text())
        };
        if recipe.scale == Scale::Log && x <= 0.0 {
            bail!("`{}` is {x}, which has no place on a log scale: use `scale = \"symlog\"`", recipe.x);
        }
        let Some(y) = number("mean") else { continue };
        let interval = number("ci_low").zip(number("ci_high"));
        let values = by.iter().map(|column| column.cells[row].clone()).collect();
        found.entry(values).or_default().push(Point { x, y, interval });
    }
    for points in found.values_mut() {
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    Ok(found)
}

/// A metric of a file may have any name; what a path cannot hold on every system becomes `-`.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}
