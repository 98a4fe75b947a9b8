//! A table as its readers take it: named columns of cells. Figures are drawn of it, files and pages show it.

use serde_json::{Map, Number, Value, json};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Version of the form of [`Table::to_json`].
pub const FORMAT: u32 = 2;

/// Named columns, all of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, unique within the table.
    pub name: String,
    /// Its cells, one per row.
    pub cells: Vec<Cell>,
}

/// One cell.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Nothing is known.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

impl Table {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.cells.len())
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The names of all columns.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// One JSON object: `format`, `columns`, what else is to be `said`, and `rows`, a list of values on a line each.
    pub fn to_json(&self, said: Map<String, Value>) -> String {
        let row = |row: usize| Value::Array(self.columns.iter().map(|column| column.cells[row].to_json()).collect());
        let rows: Vec<String> = (0..self.rows()).map(|number| format!("    {}", row(number))).collect();
        let mut head = Map::from_iter([("format".to_string(), json!(FORMAT))]);
        head.insert("columns".to_string(), self.names().collect());
        head.extend(said);
        let head: Vec<String> = head.iter().map(|(name, value)| format!("  {}: {value}", json!(name))).collect();
        let rows = if rows.is_empty() { String::new() } else { format!("\n{}\n  ", rows.join(",\n")) };
        format!("{{\n{},\n  \"rows\": [{rows}]\n}}\n", head.join(",\n"))
    }

    /// The same columns and rows as Markdown; numbers with six digits.
    pub fn to_markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let is_numeric = |column: &Column| column.cells.iter().all(|cell| !matches!(cell, Cell::Text(_)));
        let rule = |column: &Column| if is_numeric(column) { "---:" } else { "---" }.to_string();
        let mut out = line(&mut self.names().map(escape_markdown));
        out.push_str(&line(&mut self.columns.iter().map(rule)));
        for row in 0..self.rows() {
            let cell = |column: &Column| match &column.cells[row] {
                Cell::Float(value) => rounded(*value),
                other => escape_markdown(&other.text()),
            };
            out.push_str(&line(&mut self.columns.iter().map(cell)));
        }
        out
    }

    /// The same columns and rows as CSV (RFC 4180, but `\n`); what is null is empty.
    ///
    /// # Errors
    /// It cannot be written: a bug.
    pub fn to_csv(&self) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.names())?;
        for row in 0..self.rows() {
            writer.write_record(self.columns.iter().map(|column| column.cells[row].text().into_owned()))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }
}

impl Cell {
    /// The cell as a number: whole numbers too, nothing else.
    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Int(value) => Some(*value as f64),
            Cell::Float(value) => Some(*value),
            Cell::Null | Cell::Bool(_) | Cell::Text(_) => None,
        }
    }

    /// The cell as a person reads it, with all digits; null is empty.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Cell::Null => Cow::Borrowed(""),
            Cell::Bool(value) => value.to_string().into(),
            Cell::Int(value) => value.to_string().into(),
            Cell::Float(value) => value.to_string().into(),
            Cell::Text(text) => Cow::Borrowed(text),
        }
    }

    /// The cell as JSON. What is no finite number has no form there but null.
    pub fn to_json(&self) -> Value {
        match self {
            Cell::Null => Value::Null,
            Cell::Bool(value) => Value::Bool(*value),
            Cell::Int(value) => Value::Number((*value).into()),
            Cell::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
            Cell::Text(text) => Value::String(text.clone()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Cell::Null => 0,
            Cell::Bool(_) => 1,
            Cell::Int(_) | Cell::Float(_) => 2,
            Cell::Text(_) => 3,
        }
    }
}

/// The order of groups: null, booleans, numbers by size, texts.
impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
            (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
            (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
            (a, b) => match (a.number(), b.number()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => a.rank().cmp(&b.rank()),
            },
        }
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `1` and `1.0` are one group.
impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cell {}

/// Six digits that count, without zeros at the end.
fn rounded(value: f64) -> String {
    format!("{value:.5e}").parse::<f64>().unwrap_or(value).to_string()
}

/// Markdown's cells end at `|` and at line breaks.
pub(super) fn escape_markdown(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |name: &str, cells: Vec<Cell>| Column { name: name.to_string(), cells };
        Table {
            columns: vec![
                column("task", vec![Cell::Text("a|b, c".to_string()), Cell::Int(7)]),
                column("mean", vec![Cell::Float(0.1), Cell::Null]),
            ],
        }
    }

    #[test]
    fn csv_and_json_have_the_same_columns_and_rows() {
        assert_eq!(table().to_csv().unwrap(), "task,mean\n\"a|b, c\",0.1\n7,\n");
        let text = table().to_json(Map::from_iter([("by".to_string(), json!(["task"]))]));
        let expected =
            json!({ "format": 2, "columns": ["task", "mean"], "by": ["task"], "rows": [["a|b, c", 0.1], [7, null]] });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected, "{text}");
        assert_eq!(table().to_markdown(), "| task | mean |\n| --- | ---: |\n| a\\|b, c | 0.1 |\n| 7 |  |\n");
        let empty = Table::default().to_json(Map::new());
        assert_eq!(serde_json::from_str::<Value>(&empty).unwrap()["rows"], json!([]), "{empty}");
    }

    #[test]
    fn cells_are_ordered_by_size() {
        let text = |text: &str| Cell::Text(text.to_string());
        let mut cells =
            [text("b"), Cell::Int(20), Cell::Null, Cell::Float(3.5), text("a"), Cell::Int(0), Cell::Bool(true)];
        cells.sort();
        let texts: Vec<_> = cells.iter().map(|cell| cell.text().into_owned()).collect();
        assert_eq!(texts, ["", "true", "0", "3.5", "20", "a", "b"]);
    }
}
