//! Figures show what they are given, the same way every time, and no text runs into another.

mod drawn;
mod mistakes;
mod overlap;

use super::*;
use crate::diagnostic::{Problems, Sources};
use crate::report::table::{Cell, Column};
use crate::settings::{self, Decode as _};
use serde_json::{Value as Json, json};

/// The table with these columns and rows.
fn table(names: &[&str], rows: &[Json]) -> Table {
    let cell = |value: &Json| match value {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Bool(*value),
        Json::Number(number) => number.as_i64().map_or_else(|| Cell::Float(number.as_f64().unwrap()), Cell::Int),
        Json::String(text) => Cell::Text(text.clone()),
        other => panic!("{other}"),
    };
    let column = |(number, name): (usize, &&str)| Column {
        name: (*name).to_string(),
        cells: rows.iter().map(|row| cell(&row[number])).collect(),
    };
    Table { columns: names.iter().enumerate().map(column).collect() }
}

const TIDY: &[&str] = &["n", "task", "metric", "mean", "ci_low", "ci_high"];

/// A tidy table of two metrics of some tasks, with intervals but for n = 0.
fn curves(tasks: &[&str]) -> Table {
    let mut rows = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        for (step, n) in [0, 10, 25, 50, 100, 200, 400, 1000].into_iter().enumerate() {
            for (offset, metric) in [(0.0, "em"), (0.1, "gpt4.score")] {
                let y = 0.05 + offset + 0.08 * step as f64 + 0.01 * number as f64;
                let interval = if n == 0 { (Json::Null, Json::Null) } else { (json!(y - 0.05), json!(y + 0.05)) };
                rows.push(json!([n, task, metric, y, interval.0, interval.1]));
            }
        }
    }
    table(TIDY, &rows)
}

/// Rows of three systems with two metrics.
fn rows() -> Table {
    let row = |number: usize| {
        let (a, b) = ((number * 37 % 101) as f64 / 101.0, (number * 53 % 89) as f64 / 89.0);
        let system = ["BART", "T5", "UniLM"][number % 3];
        json!([system, a, (a * 5.0 + b * 2.0).round(), 1.0, null])
    };
    table(&["system", "rouge", "human", "same", "nothing"], &(0..90).map(row).collect::<Vec<_>>())
}

/// What a manifest says of a figure, or the problems with it.
fn read(text: &str, by: &[&str]) -> Result<FigureRecipe, String> {
    let mut sources = Sources::default();
    let file = sources.add("m.toml", text);
    let mut problems = Problems::default();
    let value = settings::parse(text, file, &mut problems).expect("syntax");
    let recipe = FigureRecipe::decode(&value, &mut problems);
    let by: Vec<String> = by.iter().map(ToString::to_string).collect();
    if let Some(recipe) = &recipe {
        check(recipe, &value, &by, &mut problems);
    }
    match recipe {
        Some(recipe) if problems.is_empty() => Ok(recipe),
        _ => Err(problems.into_vec().iter().map(|problem| sources.render(problem)).collect()),
    }
}

/// For which rows an expression is true.
fn mask(expression: &str, table: &Table) -> anyhow::Result<Vec<bool>> {
    let environment = minijinja::Environment::new();
    let expression = environment.compile_expression(expression)?;
    let of_row = |row: usize| {
        let cells = table.columns.iter().map(|column| (column.name.clone(), column.cells[row].to_json()));
        let row: serde_json::Map<String, Json> = cells.collect();
        Ok(expression.eval(minijinja::value::Serde(&row))?.is_true())
    };
    (0..table.rows()).map(of_row).collect()
}

/// The names in front of `metric`: what the aggregate was grouped by.
fn by(table: &Table) -> Vec<&str> {
    table.names().take_while(|name| *name != "metric").collect()
}

fn figure_of(text: &str, table: &Table) -> anyhow::Result<Figure> {
    let recipe = read(text, &by(table)).unwrap_or_else(|problems| panic!("{problems}"));
    build(&recipe, table, &|expression| mask(expression, table))
}

fn svg_of(text: &str, table: &Table) -> String {
    figure_of(text, table).unwrap_or_else(|error| panic!("{error:#}")).to_svg(Theme::Light)
}

fn failure(text: &str, table: &Table) -> String {
    format!("{:#}", figure_of(text, table).map(|figure| figure.about).unwrap_err())
}

/// How many marks of a class are drawn.
fn count(svg: &str, class: &str) -> usize {
    svg.matches(&format!("class=\"{class}\"")).count()
}

/// A figure of every kind, with the table that it is of.
fn samples() -> Vec<(&'static str, Table)> {
    let tasks = ["mnli", "qnli", "sst2", "stsb", "conll", "xsum", "squadv2"];
    let long = ["a-rather-long-name-of-a-task", "another/even-longer \"name\" of a task, the second", "b", "c", "d"];
    let pair = |x: usize, y: usize| {
        json!([format!("task_number_{x}"), format!("model_number_{y}"), "em", x as f64 / 9.0 - y as f64 / 7.0])
    };
    let pairs: Vec<Json> = (0..18).flat_map(|x| (0..18).map(move |y| pair(x, y))).collect();
    let heat = table(&["task", "model", "metric", "mean"], &pairs);
    vec![
        ("kind='line'\nx='n'\ny='em'\nseries='task'\nscale='symlog'", curves(&tasks)),
        (
            "kind='line'\nx='n'\ny=['em','gpt4']\npanel='task'\nscale='symlog'\nreference={y='em',where='n == 0'}\n\
             title='Learning curves of a model on seven tasks with a title that is longer than one line'",
            curves(&tasks),
        ),
        (
            "kind='line'\nx='n'\ny=['em','gpt4']\npanel=['metric','task']\nwhere='n > 0'\nscale='log'\ny_scale='log'",
            curves(&tasks),
        ),
        ("kind='bar'\nx='task'\ny=['em','gpt4']\nwhere='n == 100'", curves(&tasks)),
        ("kind='bar'\nx='task'\ny='em'\nseries='n'\nsort='descending'", curves(&long)),
        ("kind='box'\nx='system'\ny='rouge'", rows()),
        ("kind='box'\nof='table'\nx='task'\ny='em'\nseries='n'", curves(&tasks)),
        ("kind='violin'\nx='system'\ny=['rouge','same']\nwidth=17", rows()),
        ("kind='scatter'\nx='rouge'\ny='human'\nregression='band'\nedges=true\npanel='system'", rows()),
        ("kind='scatter'\nx='human'\ny='rouge'\nsize='count'\nseries='system'", rows()),
        ("kind='density'\nx=['rouge','human']\npanel='system'", rows()),
        ("kind='heatmap'\nx='task'\ny='model'\ntitle='Every task by every model'", heat.clone()),
        ("kind='heatmap'\nx='task'\ny='model'\nannotate=true\nwidth=17", heat),
        ("kind='heatmap'\nx='n'\ny='task'\npanel='metric'", curves(&tasks)),
    ]
}
