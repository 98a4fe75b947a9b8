//! A tidy table of statistics: one line per group and metric; as JSON, CSV and Markdown.

use crate::statistics::Summary;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Version of the form of `table.json`.
pub const FORMAT: u32 = 1;

/// Columns behind those of the groups.
pub const COLUMNS: [&str; 7] = ["metric", "count", "nulls", "mean", "std", "ci_low", "ci_high"];

/// Statistics of metrics, by groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What the groups are made of.
    pub by: Vec<String>,
    /// What a count counts.
    pub unit: String,
    /// Metrics, in the order of the columns of the Markdown table.
    pub metrics: Vec<String>,
    /// Lines, ordered by group, then by metric.
    pub lines: Vec<Line>,
}

/// One metric of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// A value for each of [`Table::by`].
    pub group: Vec<Value>,
    /// The metric.
    pub metric: String,
    /// Rows for which the metric said nothing; they count nowhere else.
    pub nulls: usize,
    /// Its statistics over the units.
    pub summary: Summary,
}

impl Table {
    /// The table as one JSON object: `format`, `by`, `unit`, `columns` and `rows`, a list of values on a line each.
    pub fn to_json(&self) -> String {
        let rows: Vec<String> = self.lines.iter().map(|line| format!("    {}", Value::Array(cells(line)))).collect();
        format!(
            "{{\n  \"format\": {FORMAT},\n  \"by\": {},\n  \"unit\": {},\n  \"columns\": {},\n  \"rows\": [\n{}\n  ]\n}}\n",
            json!(self.by),
            json!(self.unit),
            json!(self.header()),
            rows.join(",\n")
        )
    }

    /// The same columns and rows as CSV (RFC 4180, but `\n`); what is null is empty.
    pub fn to_csv(&self) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.header())?;
        for line in &self.lines {
            writer.write_record(cells(line).iter().map(display))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }

    /// A table for reading: a line per group, a column per metric, `mean ± half of the interval`.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let mut line = |cells: Vec<String>| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        };
        line(self.by.iter().chain(&self.metrics).map(|name| escape(name)).collect());
        let rules = self.by.iter().map(|_| "---").chain(self.metrics.iter().map(|_| "---:"));
        line(rules.map(str::to_string).collect());
        for group in self.lines.chunk_by(|a, b| a.group == b.group) {
            let names = group[0].group.iter().map(|value| escape(&display(value)));
            let values = self.metrics.iter().map(|metric| {
                let found = group.iter().find(|line| line.metric == *metric);
                found.map_or(String::new(), |line| mean_and_half(&line.summary))
            });
            line(names.chain(values).collect());
        }
        let _ = write!(out, "\nMean ± half of the 95% confidence interval over `{}`.\n", self.unit);
        out
    }

    fn header(&self) -> Vec<&str> {
        self.by.iter().map(String::as_str).chain(COLUMNS).collect()
    }
}

fn cells(line: &Line) -> Vec<Value> {
    let Summary { count, mean, std, interval } = line.summary;
    let mut cells = line.group.clone();
    cells.extend([
        json!(line.metric),
        json!(count),
        json!(line.nulls),
        json!(mean),
        json!(std),
        json!(interval.map(|(low, _)| low)),
        json!(interval.map(|(_, high)| high)),
    ]);
    cells
}

fn mean_and_half(summary: &Summary) -> String {
    match (summary.mean, summary.interval) {
        (Some(mean), Some((low, high))) => format!("{mean:.3} ± {:.3}", (high - low) / 2.0),
        (Some(mean), None) => format!("{mean:.3}"),
        (None, _) => "—".to_string(),
    }
}

/// A value as a person reads it: strings without quotes, null as nothing.
pub fn display(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Markdown's cells end at `|` and at line breaks.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// A value that groups are made of, in the order of groups: null, booleans, numbers by size, strings, the rest by its text.
#[derive(Clone, Debug)]
pub struct Label(pub Value);

impl Label {
    fn rank(&self) -> u8 {
        match self.0 {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| match (&self.0, &other.0) {
            (Value::Number(a), Value::Number(b)) => {
                a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN))
            }
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (a, b) => a.to_string().cmp(&b.to_string()),
        })
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Label {}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let line = |group: Value, metric: &str, nulls, summary| Line {
            group: vec![group],
            metric: metric.to_string(),
            nulls,
            summary,
        };
        let none = Summary { count: 0, mean: None, std: None, interval: None };
        let one = Summary { count: 1, mean: Some(0.5), ..none };
        let two = Summary { count: 2, std: Some(0.125), interval: Some((0.25, 0.75)), ..one };
        Table {
            by: vec!["task".to_string()],
            unit: "run".to_string(),
            metrics: vec!["em".to_string(), "rouge.rouge1".to_string()],
            lines: vec![
                line(json!("a|b, c"), "em", 0, two),
                line(json!("a|b, c"), "rouge.rouge1", 1, one),
                line(json!(7), "em", 2, none),
            ],
        }
    }

    #[test]
    fn csv_has_a_line_per_group_and_metric() {
        assert_eq!(
            table().to_csv().unwrap(),
            "task,metric,count,nulls,mean,std,ci_low,ci_high\n\
             \"a|b, c\",em,2,0,0.5,0.125,0.25,0.75\n\
             \"a|b, c\",rouge.rouge1,1,1,0.5,,,\n\
             7,em,0,2,,,,\n"
        );
    }

    #[test]
    fn markdown_has_a_line_per_group() {
        assert_eq!(
            table().to_markdown(),
            "| task | em | rouge.rouge1 |\n\
             | --- | ---: | ---: |\n\
             | a\\|b, c | 0.500 ± 0.250 | 0.500 |\n\
             | 7 | — |  |\n\
             \n\
             Mean ± half of the 95% confidence interval over `run`.\n"
        );
    }

    #[test]
    fn json_has_the_same_columns_and_rows() {
        let json: Value = serde_json::from_str(&table().to_json()).unwrap();
        assert_eq!((&json["format"], &json["by"], &json["unit"]), (&json!(1), &json!(["task"]), &json!("run")));
        assert_eq!(json["columns"].as_array().unwrap().len(), json["rows"][0].as_array().unwrap().len());
        assert_eq!(json["rows"][2], json!([7, "em", 0, 2, null, null, null, null]));
    }

    #[test]
    fn numbers_are_ordered_by_size() {
        let mut labels = [json!("b"), json!(20), json!(null), json!(3.5), json!("a"), json!(0)].map(Label);
        labels.sort();
        let values = labels.map(|label| label.0);
        assert_eq!(values, [json!(null), json!(0), json!(3.5), json!(20), json!("a"), json!("b")]);
    }
}
