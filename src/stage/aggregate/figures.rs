//! A recipe's figures → charts of the table.

use super::{FigureKind, FigureRecipe, group};
use crate::report::figure::{Chart, Point, Scale, Series};
use crate::report::tidy::{Label, Line, Table, display};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;

/// The file name (without ending) and the chart of figure `number`, from 1.
pub(super) fn chart(number: usize, recipe: &FigureRecipe, table: &Table) -> anyhow::Result<(String, Chart)> {
    let FigureKind::Line = recipe.kind;
    let metrics = group::select(Some(&recipe.y), &table.metrics).with_context(|| format!("figure {number}"))?;
    let metrics: Vec<String> = metrics.into_iter().map(|(_, name)| name).collect();
    let x = column(&recipe.x, table)?;
    let by = recipe.series.0.iter().map(|name| column(name, table)).collect::<anyhow::Result<Vec<usize>>>()?;
    let mut series = Vec::new();
    for metric in &metrics {
        for (values, points) in lines_of(metric, x, &by, recipe, table).with_context(|| format!("figure {number}"))? {
            // With one metric the axis names it, so that the legend need not.
            let metric = (metrics.len() > 1).then(|| metric.clone());
            let label: Vec<String> = metric.into_iter().chain(values.iter().map(|value| display(&value.0))).collect();
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
fn lines_of(
    metric: &str,
    x: usize,
    by: &[usize],
    recipe: &FigureRecipe,
    table: &Table,
) -> anyhow::Result<BTreeMap<Vec<Label>, Vec<Point>>> {
    let mut found: BTreeMap<Vec<Label>, Vec<Point>> = BTreeMap::new();
    for line in table.lines.iter().filter(|line| line.metric == metric) {
        let Some(point) = point(line, x, recipe)? else { continue };
        let values = by.iter().map(|column| Label(line.group[*column].clone())).collect();
        found.entry(values).or_default().push(point);
    }
    for points in found.values_mut() {
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    Ok(found)
}

/// Where a line of the table stands in the figure; nowhere if it has no mean.
fn point(line: &Line, x: usize, recipe: &FigureRecipe) -> anyhow::Result<Option<Point>> {
    let value = &line.group[x];
    // Values of CSV files are strings.
    let number =
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number: &f64| number.is_finite());
    let Some(x) = number else { bail!("`{}` is {value}: the x of a line must be a number", recipe.x) };
    if recipe.scale == Scale::Log && x <= 0.0 {
        bail!("`{}` is {value}, which has no place on a log scale: use `scale = \"symlog\"`", recipe.x);
    }
    Ok(line.summary.mean.map(|y| Point { x, y, interval: line.summary.interval }))
}

fn column(name: &str, table: &Table) -> anyhow::Result<usize> {
    table.by.iter().position(|by| by == name).with_context(|| format!("`{name}` is not in `by`"))
}

/// A metric of a file may have any name; what a path cannot hold on every system becomes `-`.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}
