//! A recipe's figures, drawn of its table.

use crate::report::figure::{self, FigureRecipe, Source};
use crate::report::table::{Cell, Column, Table};
use crate::report::tidy;
use anyhow::{Context as _, ensure};
use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::Value;

/// Steps that one evaluation of `where` may take: far more than an expression needs, and an end to one that has none.
const FUEL: u64 = 100_000;

/// The files of figure `number`, from 1.
pub(super) fn draw(
    number: usize,
    recipe: &FigureRecipe,
    table: &tidy::Table,
) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    ensure!(recipe.source() == Source::Table, "figure {number}: there is only the table to draw: `of = \"table\"`");
    let table = plain(table)?;
    figure::draw(recipe, number, &table, &|expression| mask(expression, &table))
}

/// The tidy table as named columns of cells.
fn plain(table: &tidy::Table) -> anyhow::Result<Table> {
    let written: Value = serde_json::from_str(&table.to_json())?;
    let rows = written["rows"].as_array().context("a table without rows")?;
    let column = |(number, name): (usize, &Value)| Column {
        name: tidy::display(name),
        cells: rows.iter().map(|row| cell(&row[number])).collect(),
    };
    Ok(Table { columns: written["columns"].as_array().into_iter().flatten().enumerate().map(column).collect() })
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cell::Int(whole),
            None => number.as_f64().map_or(Cell::Null, Cell::Float),
        },
        other => Cell::Text(tidy::display(other)),
    }
}

/// For which rows of the table `expression` is true.
fn mask(expression: &str, table: &Table) -> anyhow::Result<Vec<bool>> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let expression = environment.compile_expression(expression)?;
    let of_row = |row: usize| {
        let cells = table.columns.iter().map(|column| (column.name.clone(), column.cells[row].to_json()));
        let row: serde_json::Map<String, Value> = cells.collect();
        Ok(expression.eval(Serde(&row))?.is_true())
    };
    (0..table.rows()).map(of_row).collect()
}
