//! Reference lines: a value of all panels, or one that each panel has of its own.

use super::Reference;
use super::data::{Data, Groups};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;

/// One reference with its text, and its value by panel, and by series where those have different ones.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) levels: Vec<(usize, Option<usize>, f64)>,
}

/// The reference lines of the recipe.
pub(super) fn lines(data: &Data<'_>, series: &Groups, panels: &[String]) -> anyhow::Result<Vec<Line>> {
    let line = |reference: &Reference| {
        let asked = || reference.r#where.clone().or(reference.value.map(super::text::number));
        let label = reference.label.clone().or_else(asked).unwrap_or_else(|| "mean".to_string());
        let levels = match reference.value {
            Some(value) => (0..panels.len()).map(|panel| (panel, None, value)).collect(),
            None => levels(data, reference, series, panels).with_context(|| format!("the reference line `{label}`"))?,
        };
        Ok(Line { label, levels })
    };
    data.recipe.reference.0.iter().map(line).collect()
}

/// The mean of what a reference means, by panel and series.
fn levels(
    data: &Data<'_>,
    reference: &Reference,
    series: &Groups,
    panels: &[String],
) -> anyhow::Result<Vec<(usize, Option<usize>, f64)>> {
    // Other rows than those that are drawn: `n == 0` may have no place on the axis.
    let mut recipe = data.recipe.clone();
    recipe.r#where.clone_from(&reference.r#where);
    let mut others = Data::of(&recipe, data.table, data.mask)?;
    if let Some(metric) = &reference.y {
        others.metrics.clear();
        others.select(metric)?;
    }
    let values = others.values()?;
    if values.is_empty() {
        bail!("no row has a value for it");
    }
    let panel_names: Vec<&str> = recipe.panel.0.iter().map(String::as_str).collect();
    let series_names = data.series_names();
    let (by_panel, by_series) = (others.groups(&panel_names, &values)?, others.groups(&series_names, &values)?);
    let mut found: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for (number, value) in values.iter().enumerate() {
        let place = |labels: &[String], label: &String| labels.iter().position(|known| known == label);
        let panel = place(panels, &by_panel.labels[by_panel.of[number]]);
        let series = place(&series.labels, &by_series.labels[by_series.of[number]]);
        if let (Some(panel), Some(series)) = (panel, series) {
            found.entry((panel, series)).or_default().push(value.value);
        }
    }
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let mut levels = Vec::new();
    for panel in 0..panels.len() {
        let of_panel: Vec<(usize, f64)> =
            found.range((panel, 0)..(panel + 1, 0)).map(|((_, series), values)| (*series, mean(values))).collect();
        let several = series.labels.len() > 1;
        match of_panel.split_first() {
            // What is one for all series is no series' own.
            Some(((_, first), rest)) if !rest.is_empty() && rest.iter().all(|(_, value)| value == first) => {
                levels.push((panel, None, *first));
            }
            _ => levels.extend(of_panel.iter().map(|(series, value)| (panel, several.then_some(*series), *value))),
        }
    }
    Ok(levels)
}
