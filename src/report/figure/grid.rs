//! What the kinds have in common: panels of a grid, categories along an axis, the figure around them.

use super::data::{Data, Groups, Value, check_names, check_panels};
use super::layout::UNIT_PANEL;
use super::line::check_place;
use super::reference::{self, Line};
use super::{Axis, Entry, Figure, Mark, Panel, Sample, Scale, Sort, text};

/// The panels of a figure, and the panel of each value.
pub(super) struct Panels {
    pub(super) of: Vec<usize>,
    /// What the panels are called, to be found again; of two columns both names.
    pub(super) labels: Vec<String>,
    titles: Vec<String>,
    row_titles: Vec<String>,
    columns: usize,
}

/// A panel in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) marks: Vec<Mark>,
    /// What the axes must reach.
    pub(super) x_values: Vec<f64>,
    pub(super) y_values: Vec<f64>,
    /// The axes, where they are not made of these values.
    pub(super) x: Option<Axis>,
    pub(super) y: Option<Axis>,
}

/// Everything but the panels.
#[derive(Default)]
pub(super) struct Around {
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) about: String,
    pub(super) legend: Vec<Entry>,
    pub(super) least_width: f64,
    pub(super) flush: bool,
    /// Whether few values of x are all written.
    pub(super) own_x_ticks: bool,
    pub(super) cells: bool,
}

/// The panels of `values`, each of them at least `least` wide if there is a choice.
pub(super) fn panels(data: &Data<'_>, values: &[Value], least: f64) -> anyhow::Result<Panels> {
    let names: Vec<&str> = data.recipe.panel.0.iter().map(String::as_str).collect();
    if let [rows, columns] = names[..] {
        let (rows, columns) = (data.groups(&[rows], values)?, data.groups(&[columns], values)?);
        let count = columns.labels.len();
        check_panels(rows.labels.len() * count)?;
        let label = |row: &String| columns.labels.iter().map(|column| format!("{row} · {column}")).collect::<Vec<_>>();
        return Ok(Panels {
            of: rows.of.iter().zip(&columns.of).map(|(row, column)| row * count + column).collect(),
            labels: rows.labels.iter().flat_map(label).collect(),
            titles: columns.labels,
            row_titles: rows.labels,
            columns: count.max(1),
        });
    }
    let groups = data.groups(&names, values)?;
    let count = groups.labels.len().max(1);
    check_panels(count)?;
    let most = (data.recipe.units() / least.max(UNIT_PANEL)).floor().max(1.0) as usize;
    let rows = count.div_ceil(most.min(count));
    let titles = if names.is_empty() { vec![String::new()] } else { groups.labels.clone() };
    let labels = if groups.labels.is_empty() { vec![String::new()] } else { groups.labels };
    Ok(Panels { of: groups.of, labels, titles, row_titles: Vec::new(), columns: count.div_ceil(rows) })
}

/// The categories of `values` along the x axis, in the order that the recipe asks for.
pub(super) fn categories(data: &Data<'_>, values: &[Value]) -> anyhow::Result<Groups> {
    let names: Vec<&str> = data.recipe.x().into_iter().collect();
    let mut groups = data.groups(&names, values)?;
    check_names(names.first().unwrap_or(&"x"), groups.labels.len())?;
    if data.recipe.sort == Sort::Level {
        return Ok(groups);
    }
    let mut means: Vec<(f64, usize)> = (0..groups.labels.len())
        .map(|group| {
            let of = |(place, value): (usize, &Value)| (groups.of[place] == group).then_some(value.value);
            let found: Vec<f64> = values.iter().enumerate().filter_map(of).collect();
            (found.iter().sum::<f64>() / found.len().max(1) as f64, group)
        })
        .collect();
    means.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    if data.recipe.sort == Sort::Descending {
        means.reverse();
    }
    let mut places = vec![0; means.len()];
    for (place, (_, group)) in means.iter().enumerate() {
        places[*group] = place;
    }
    groups.labels = means.iter().map(|(_, group)| groups.labels[*group].clone()).collect();
    groups.of.iter_mut().for_each(|group| *group = places[*group]);
    Ok(groups)
}

/// The legend of series, if there is something to tell apart.
pub(super) fn legend(series: &Groups, sample: fn(usize) -> Sample) -> Vec<Entry> {
    let entry = |(number, label): (usize, &String)| Entry { label: label.clone(), sample: sample(number) };
    if series.labels.len() < 2 { Vec::new() } else { series.labels.iter().enumerate().map(entry).collect() }
}

/// What tells the series apart, as a text before the legend. That metrics are metrics need not be said.
fn legend_title(data: &Data<'_>) -> String {
    match data.series_names()[..] {
        [name, ..] if name == data.metric_name() => String::new(),
        ref names => names.join(" · "),
    }
}

impl Panels {
    pub(super) fn count(&self) -> usize {
        self.labels.len()
    }

    /// So many drafts as there are panels.
    pub(super) fn drafts(&self) -> Vec<Draft> {
        (0..self.count()).map(|_| Draft::default()).collect()
    }

    /// Which panels have a y axis in common: all of them, but a metric has a range of its own.
    fn own_y(&self, data: &Data<'_>) -> Option<fn(usize, usize) -> usize> {
        let place = data.recipe.panel.0.iter().position(|name| name == data.metric_name())?;
        Some(match (place, self.row_titles.is_empty()) {
            (0, false) => |columns, panel| panel / columns,
            (_, false) => |columns, panel| panel % columns,
            (_, true) => |_, panel| panel,
        })
    }

    /// The figure of these drafts, with its reference lines.
    pub(super) fn figure(
        self,
        data: &Data<'_>,
        series: &Groups,
        mut drafts: Vec<Draft>,
        around: Around,
    ) -> anyhow::Result<Figure> {
        let recipe = data.recipe;
        let mut legend = around.legend;
        for line in reference::lines(data, series, &self.labels)? {
            let Line { label, levels } = line;
            for (panel, series, y) in levels {
                check_place(recipe.y_scale, "y_scale", &label, y)?;
                drafts[panel].y_values.push(y);
                drafts[panel].marks.push(Mark::Level { series, y });
            }
            legend.push(Entry { label, sample: Sample::Level });
        }
        // An interval may reach to where a log scale has no place.
        for draft in drafts.iter_mut().filter(|_| recipe.y_scale == Scale::Log) {
            draft.y_values.retain(|y| *y > 0.0);
        }
        let all_x: Vec<f64> = drafts.iter().flat_map(|draft| draft.x_values.iter().copied()).collect();
        let x_axis = |values: &[f64]| match around.own_x_ticks {
            true => Axis::of_values(values.iter().copied(), recipe.scale),
            false => Axis::of_range(values.iter().copied(), recipe.scale),
        };
        let y_axis = |values: &[f64]| Axis::of_range(values.iter().copied(), recipe.y_scale);
        let shared_x = x_axis(&all_x);
        let own = self.own_y(data);
        let y_axes: Vec<Axis> = (0..drafts.len())
            .map(|number| {
                let with =
                    |other: &usize| own.is_none_or(|group| group(self.columns, *other) == group(self.columns, number));
                let values: Vec<f64> =
                    (0..drafts.len()).filter(with).flat_map(|other| drafts[other].y_values.iter().copied()).collect();
                y_axis(&values)
            })
            .collect();
        let title = |number: usize| match self.row_titles.is_empty() {
            true => self.titles.get(number).cloned().unwrap_or_default(),
            false => self.titles.get(number).filter(|_| number < self.columns).cloned().unwrap_or_default(),
        };
        let shared_rows = y_axes.chunks(self.columns).all(|row| row.iter().all(|axis| *axis == row[0]));
        let panels = drafts.into_iter().enumerate().map(|(number, draft)| Panel {
            title: title(number),
            x: draft.x.unwrap_or_else(|| shared_x.clone()),
            y: draft.y.unwrap_or_else(|| y_axes[number].clone()),
            marks: draft.marks,
            least_width: around.least_width,
            flush: around.flush,
        });
        Ok(Figure {
            title: recipe.title.clone().unwrap_or_default(),
            about: around.about,
            x_label: recipe.x_label.clone().unwrap_or(around.x_label),
            y_label: recipe.y_label.clone().unwrap_or(around.y_label),
            width: recipe.units(),
            legend_title: if series.labels.len() < 2 { String::new() } else { legend_title(data) },
            legend,
            colour_bar: None,
            columns: self.columns,
            panels: panels.collect(),
            row_titles: self.row_titles,
            shared_y: shared_rows,
            shared_x: true,
            cells: around.cells,
        })
    }
}

/// Where a value of `series` stands beside the others of its category, and how wide it may be.
pub(super) fn slot(category: usize, series: usize, count: usize) -> (f64, f64) {
    let width = 0.8 / count.max(1) as f64;
    (category as f64 - 0.4 + (series as f64 + 0.5) * width, width)
}

/// An error about two values at one place.
pub(super) fn twice(data: &Data<'_>, what: &str) -> anyhow::Error {
    let metrics = if data.metrics.is_empty() { " (one metric, say: `metric == \"em\"`)" } else { "" };
    anyhow::anyhow!(
        "two values have one place ({what}): name the column that tells them apart in `series` or `panel`, or leave rows out \
         by `where`{metrics}"
    )
}

/// A place in words, for messages.
pub(super) fn place(names: &[(&str, &str)]) -> String {
    let named = names.iter().filter(|(name, label)| !name.is_empty() && !label.is_empty());
    let texts: Vec<String> = named.map(|(name, label)| format!("{name} = {}", text::shortened(label, 400.0))).collect();
    if texts.is_empty() { "the only one there is".to_string() } else { texts.join(", ") }
}
