//! A tidy table laid out for readers: groups down, metrics (and what is pivoted) across; as Markdown, LaTeX and CSV.

use super::table::{Cell, Table, escape_markdown};
use crate::diagnostic::Problems;
use crate::settings::{Decode, Schema, Value, ValueKind, schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

crate::settings! {
    /// How a table is laid out for readers.
    pub struct Layout {
        /// Those of `by` whose values each make a line; by default those that make no columns.
        rows: Option<Vec<String>> = None,
        /// Those of `by` whose values each make a column for every metric.
        columns: Vec<String> = Vec::new(),
        /// The column of the tidy table that is shown.
        value: String = "mean".to_string(),
        /// What the values are multiplied by: 100 for per cent.
        scale: f64 = 1.0,
        /// Digits after the point.
        digits: usize = 3 => 0..=15,
        /// Whether half of the confidence interval stands behind each mean.
        interval: bool = true,
        /// A last column with the average of the others.
        average: Average = Average::Absent,
        /// Which value of each column is set in bold: the `high`est or the `low`est.
        best: Option<Best> = None,
        /// The caption of the LaTeX table.
        caption: Option<String> = None,
        /// The label of the LaTeX table.
        label: Option<String> = None,
    }
}

crate::words! {
    /// Which of several values is the best.
    pub enum Best {
        /// The greatest.
        High = "high",
        /// The least.
        Low = "low",
    }
}

/// A last column: `true` for one called `Average`, or its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "Option<String>")]
pub enum Average {
    /// None.
    Absent,
    /// One of this name.
    Named(String),
}

impl From<Option<String>> for Average {
    fn from(name: Option<String>) -> Self {
        name.map_or(Self::Absent, Self::Named)
    }
}

impl From<Average> for Option<String> {
    fn from(average: Average) -> Self {
        match average {
            Average::Absent => None,
            Average::Named(name) => Some(name),
        }
    }
}

impl Decode for Average {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        Some(match value.kind {
            ValueKind::Boolean(false) => Self::Absent,
            ValueKind::Boolean(true) => Self::Named("Average".to_string()),
            _ => Self::Named(String::decode(value, problems)?),
        })
    }

    fn schema() -> Schema {
        schema::any_of([bool::schema(), String::schema()])
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            rows: None,
            columns: Vec::new(),
            value: "mean".to_string(),
            scale: 1.0,
            digits: 3,
            interval: true,
            average: Average::Absent,
            best: None,
            caption: None,
            label: None,
        }
    }
}

/// A table as it is read on paper.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// Names of the columns of groups, then of those of values.
    header: Vec<String>,
    /// How many of them are of groups.
    names: usize,
    lines: Vec<Line>,
    /// What stands below.
    note: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    names: Vec<String>,
    cells: Vec<Shown>,
}

/// A value with half of its interval.
#[derive(Clone, Debug, Default, PartialEq)]
struct Shown {
    /// Whether the group has such a cell at all.
    is_there: bool,
    value: Option<f64>,
    half: Option<f64>,
    is_best: bool,
}

impl Layout {
    /// Lays out a tidy table of groups by `by`; `unit` is what its intervals are over.
    pub fn lay(&self, by: &[String], unit: &str, table: &Table) -> Laid {
        let across = &self.columns;
        let down: Vec<String> = match &self.rows {
            Some(rows) => rows.clone(),
            None => by.iter().filter(|name| !across.contains(name)).cloned().collect(),
        };
        let mut lines: Vec<(Vec<&Cell>, BTreeMap<usize, Shown>)> = Vec::new();
        let mut heads: Vec<(Vec<&Cell>, &Cell)> = Vec::new();
        let cells = |names: &[String], row: usize| -> Vec<&Cell> {
            names.iter().filter_map(|name| Some(&table.column(name)?.cells[row])).collect()
        };
        let metric = |row: usize| table.column("metric").map_or(&Cell::Null, |column| &column.cells[row]);
        // Metrics stay in the order of the table, what is pivoted is in the order of its values.
        let mut metrics: Vec<&Cell> = Vec::new();
        for row in 0..table.rows() {
            if !metrics.contains(&metric(row)) {
                metrics.push(metric(row));
            }
            let head = (cells(across, row), metric(row));
            if !heads.contains(&head) {
                heads.push(head);
            }
        }
        heads.sort_by_key(|(cells, metric)| (cells.clone(), metrics.iter().position(|known| known == metric)));
        for row in 0..table.rows() {
            let names = cells(&down, row);
            let head = (cells(across, row), metric(row));
            let column = heads.iter().position(|known| *known == head).unwrap_or(0);
            let line = match lines.iter().position(|(known, _)| *known == names) {
                Some(line) => line,
                None => {
                    lines.push((names, BTreeMap::new()));
                    lines.len() - 1
                }
            };
            lines[line].1.insert(column, self.shown(table, row));
        }
        let head = |(cells, metric): &(Vec<&Cell>, &Cell)| {
            let mut parts: Vec<String> = cells.iter().map(|cell| cell.text().into_owned()).collect();
            if metrics.len() > 1 || parts.is_empty() {
                parts.push(metric.text().into_owned());
            }
            parts.join(" · ")
        };
        let mut header: Vec<String> = down.iter().cloned().chain(heads.iter().map(head)).collect();
        let line = |(names, mut cells): (Vec<&Cell>, BTreeMap<usize, Shown>)| Line {
            names: names.into_iter().map(|cell| cell.text().into_owned()).collect(),
            cells: (0..heads.len()).map(|column| cells.remove(&column).unwrap_or_default()).collect(),
        };
        let mut lines: Vec<Line> = lines.into_iter().map(line).collect();
        if let Average::Named(name) = &self.average {
            header.push(name.clone());
            for line in &mut lines {
                let values: Vec<f64> = line.cells.iter().filter_map(|cell| cell.value).collect();
                let value = crate::statistics::mean(&values);
                line.cells.push(Shown { is_there: true, value, half: None, is_best: false });
            }
        }
        self.mark_best(&mut lines);
        Laid { header, names: down.len(), lines, note: self.note(unit, table) }
    }

    fn shown(&self, table: &Table, row: usize) -> Shown {
        let number = |name: &str| table.column(name).and_then(|column| column.cells[row].number());
        let half = match (self.interval && self.value == "mean", number("ci_low"), number("ci_high")) {
            (true, Some(low), Some(high)) => Some((high - low) / 2.0 * self.scale),
            _ => None,
        };
        Shown { is_there: true, value: number(&self.value).map(|value| value * self.scale), half, is_best: false }
    }

    fn mark_best(&self, lines: &mut [Line]) {
        let Some(best) = self.best else { return };
        for column in 0..lines.first().map_or(0, |line| line.cells.len()) {
            let values = lines.iter().filter_map(|line| line.cells[column].value);
            let Some(value) = values.reduce(|a, b| if (best == Best::High) == (b > a) { b } else { a }) else {
                continue;
            };
            // What looks the same is as good.
            let text = |value: f64| format!("{value:.*}", self.digits);
            for line in lines.iter_mut() {
                let cell = &mut line.cells[column];
                cell.is_best = cell.value.is_some_and(|other| text(other) == text(value));
            }
        }
    }

    fn note(&self, unit: &str, table: &Table) -> String {
        let has_interval = table.column("ci_low").is_some_and(|column| column.cells.iter().any(|c| *c != Cell::Null));
        match self.interval && has_interval && self.value == "mean" {
            true => format!("Mean ± half of the 95% confidence interval over `{unit}`."),
            false => format!("`{}` over `{unit}`.", self.value),
        }
    }

    fn text(&self, cell: &Shown, plus_minus: &str) -> String {
        let digits = self.digits;
        match (cell.value, cell.half) {
            (Some(value), Some(half)) => format!("{value:.digits$}{plus_minus}{half:.digits$}"),
            (Some(value), None) => format!("{value:.digits$}"),
            (None, _) if cell.is_there => "—".to_string(),
            (None, _) => String::new(),
        }
    }

    /// As Markdown.
    pub fn to_markdown(&self, laid: &Laid) -> String {
        let mut out = String::new();
        let mut line = |cells: Vec<String>| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        };
        line(laid.header.iter().map(|name| escape_markdown(name)).collect());
        line(
            (0..laid.header.len()).map(|column| if column < laid.names { "---" } else { "---:" }.to_string()).collect(),
        );
        for Line { names, cells } in &laid.lines {
            let bold = |cell: &Shown| match (self.text(cell, " ± "), cell.is_best) {
                (text, true) => format!("**{text}**"),
                (text, false) => text,
            };
            line(names.iter().map(|name| escape_markdown(name)).chain(cells.iter().map(bold)).collect());
        }
        let _ = write!(out, "\n{}\n", laid.note);
        out
    }

    /// As a LaTeX table, to be set with the package `booktabs`.
    pub fn to_latex(&self, laid: &Laid) -> String {
        let columns = "l".repeat(laid.names) + &"r".repeat(laid.header.len() - laid.names);
        let mut out = format!("% {}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n", laid.note);
        let line = |out: &mut String, cells: Vec<String>| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{} \\\\", cells.join(" & "));
        };
        line(&mut out, laid.header.iter().map(|name| escape_latex(name)).collect());
        out.push_str("\\midrule\n");
        let lines = laid.lines.iter().map(|Line { names, cells }| {
            let cell = |cell: &Shown| match (self.text(cell, " \\pm "), cell.is_best) {
                (text, _) if cell.value.is_none() => text.replace('—', "---"),
                (text, true) => format!("$\\mathbf{{{text}}}$"),
                (text, false) => format!("${text}$"),
            };
            names.iter().map(|name| escape_latex(name)).chain(cells.iter().map(cell)).collect::<Vec<_>>()
        });
        lines.for_each(|cells| line(&mut out, cells));
        out.push_str("\\bottomrule\n\\end{tabular}\n");
        if self.caption.is_none() && self.label.is_none() {
            return out;
        }
        let caption =
            self.caption.as_ref().map_or(String::new(), |text| format!("\\caption{{{}}}\n", escape_latex(text)));
        let label = self.label.as_ref().map_or(String::new(), |label| format!("\\label{{{label}}}\n"));
        format!("\\begin{{table}}\n\\centering\n{out}{caption}{label}\\end{{table}}\n")
    }

    /// As CSV with all digits: what the other two show, for programs.
    ///
    /// # Errors
    /// It cannot be written: a bug.
    pub fn to_csv(&self, laid: &Laid) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&laid.header)?;
        for Line { names, cells } in &laid.lines {
            let value = |cell: &Shown| cell.value.map_or(String::new(), |value| value.to_string());
            writer.write_record(names.iter().cloned().chain(cells.iter().map(value)))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }
}

/// LaTeX's special characters, as text.
fn escape_latex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Column;

    fn tidy() -> Table {
        let text = |texts: &[&str]| texts.iter().map(|text| Cell::Text((*text).to_string())).collect();
        let float = |values: &[f64]| {
            values.iter().map(|v| if v.is_nan() { Cell::Null } else { Cell::Float(*v) }).collect::<Vec<_>>()
        };
        let column = |name: &str, cells: Vec<Cell>| Column { name: name.to_string(), cells };
        Table {
            columns: vec![
                column("model", text(&["a_1", "a_1", "b|2", "b|2"])),
                column("task", text(&["x", "y", "x", "y"])),
                column("metric", text(&["em", "em", "em", "em"])),
                column("mean", float(&[0.25, 0.5, 0.75, f64::NAN])),
                column("ci_low", float(&[0.125, f64::NAN, 0.5, f64::NAN])),
                column("ci_high", float(&[0.375, f64::NAN, 1.0, f64::NAN])),
            ],
        }
    }

    fn by() -> Vec<String> {
        vec!["model".to_string(), "task".to_string()]
    }

    #[test]
    fn groups_go_down_and_metrics_across() {
        let layout = Layout::default();
        assert_eq!(
            layout.to_markdown(&layout.lay(&by(), "run", &tidy())),
            "| model | task | em |\n| --- | --- | ---: |\n| a_1 | x | 0.250 ± 0.125 |\n| a_1 | y | 0.500 |\n\
             | b\\|2 | x | 0.750 ± 0.250 |\n| b\\|2 | y | — |\n\n\
             Mean ± half of the 95% confidence interval over `run`.\n"
        );
    }

    #[test]
    fn a_pivot_has_an_average_and_marks_the_best() {
        let layout = Layout {
            columns: vec!["task".to_string()],
            average: Average::Named("Average".to_string()),
            best: Some(Best::High),
            digits: 1,
            scale: 100.0,
            interval: false,
            ..Layout::default()
        };
        let laid = layout.lay(&by(), "row", &tidy());
        assert_eq!(
            layout.to_markdown(&laid),
            "| model | x | y | Average |\n| --- | ---: | ---: | ---: |\n| a_1 | 25.0 | **50.0** | 37.5 |\n\
             | b\\|2 | **75.0** | — | **75.0** |\n\n`mean` over `row`.\n"
        );
        assert_eq!(layout.to_csv(&laid).unwrap(), "model,x,y,Average\na_1,25,50,37.5\nb|2,75,,75\n");
        assert_eq!(
            layout.to_latex(&laid),
            "% `mean` over `row`.\n\\begin{tabular}{lrrr}\n\\toprule\nmodel & x & y & Average \\\\\n\\midrule\n\
             a\\_1 & $25.0$ & $\\mathbf{50.0}$ & $37.5$ \\\\\nb|2 & $\\mathbf{75.0}$ & --- & $\\mathbf{75.0}$ \\\\\n\
             \\bottomrule\n\\end{tabular}\n"
        );
        let named = Layout { caption: Some("5% & more".to_string()), label: Some("tab:a".to_string()), ..layout };
        let text = named.to_latex(&laid);
        assert!(text.starts_with("\\begin{table}\n\\centering\n%"), "{text}");
        assert!(text.ends_with("\\caption{5\\% \\& more}\n\\label{tab:a}\n\\end{table}\n"), "{text}");
    }

    #[test]
    fn several_metrics_stand_beside_each_other() {
        let mut table = tidy();
        table.columns[2].cells = ["em", "f1", "em", "f1"].iter().map(|m| Cell::Text((*m).to_string())).collect();
        table.columns[1].cells = vec![Cell::Text("x".to_string()); 4];
        let layout = Layout { columns: vec!["task".to_string()], interval: false, ..Layout::default() };
        let text = layout.to_csv(&layout.lay(&by(), "row", &table)).unwrap();
        assert_eq!(text, "model,x · em,x · f1\na_1,0.25,0.5\nb|2,0.75,\n");
    }
}
