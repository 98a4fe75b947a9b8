//! What a reader should know before believing a number.

use super::Survey;
use crate::plan::{Reason, Status};
use crate::record::Record;
use crate::report::page::Table;
use crate::stage::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

impl Survey<'_> {
    /// All that records and summaries hold, what concerns most first.
    pub(super) fn warn_of(&mut self, tables: &[Table]) {
        if self.subject.plan.is_none() {
            let text = "what it reads cannot be read now: the page shows the results of the last run";
            self.warn(None, text);
        }
        self.failures();
        self.losses();
        self.mixed_devices();
        self.records();
        self.dropped_rows();
        self.absent_values(tables);
    }

    fn failures(&mut self) {
        let Some(run) = self.subject.run else { return };
        for (name, entry) in &run.instances {
            if let Some(message) = &entry.message {
                self.warn(Some(name.clone()), format!("{} in the last run: {message}", entry.state.name()));
            }
            if !entry.differing.is_empty() {
                let outputs = entry.differing.join(", ");
                self.warn(Some(name.clone()), format!("made again, it differed from the first run in {outputs}"));
            }
        }
    }

    /// Results that were there.
    fn losses(&mut self) {
        let entries = self.subject.plan.iter().flat_map(|plan| &plan.entries);
        let lost = entries.filter_map(|(node, status)| match status {
            Status::Runs(reason @ (Reason::Lost | Reason::Freed)) => Some((*node, reason.to_string())),
            _ => None,
        });
        for (node, reason) in lost.collect::<Vec<_>>() {
            self.warn(Some(self.name(node)), format!("not shown: {reason}"));
        }
    }

    /// Numbers of one table that were made on different kinds of device, or of processor.
    fn mixed_devices(&mut self) {
        let has_table = |record: &Record| record.outputs.iter().any(|output| output.path.starts_with("table"));
        for (node, _) in self.made(Kind::Aggregate).into_iter().filter(|(_, record)| has_table(record)) {
            let mut devices: BTreeMap<String, usize> = BTreeMap::new();
            let mut processors: BTreeMap<String, usize> = BTreeMap::new();
            for record in self.graph.closure(&[node]).into_iter().filter_map(|node| self.known[node].as_ref()) {
                *devices.entry(record.run.device.clone()).or_default() += 1;
                *processors.entry(record.run.machine.cpu.clone()).or_default() += 1;
            }
            for (kinds, word) in [(devices, "device"), (processors, "processor")] {
                if kinds.len() > 1 {
                    let kinds: Vec<String> = kinds.iter().map(|(kind, number)| format!("{kind} ({number})")).collect();
                    let text = format!("what it rests on was made on different kinds of {word}: {}", kinds.join(", "));
                    self.warn(Some(self.name(node)), text);
                }
            }
        }
    }

    /// What stages warned of while they ran; the same of many instances is said once.
    fn records(&mut self) {
        let mut found: BTreeMap<(usize, String, String), Vec<String>> = BTreeMap::new();
        for (node, record) in self.known.iter().enumerate() {
            let id = &self.subject.pipeline.instances[node].id;
            for warning in record.iter().flat_map(|record| &record.run.warnings) {
                let place = (id.kind as usize, id.stage(), warning.clone());
                found.entry(place).or_default().push(id.to_string());
            }
        }
        for ((_, stage, text), names) in found {
            let about = match names.as_slice() {
                [name] => name.clone(),
                names => format!("{stage} ({} instances)", names.len()),
            };
            self.warn(Some(about), text);
        }
    }

    /// Rows that a mix left out as they were too long.
    fn dropped_rows(&mut self) {
        for (node, record) in self.made(Kind::Mix) {
            let Some(stats) = self.json(node, &record, "stats") else { continue };
            let number = |source: &Value, name: &str| source[name].as_u64().unwrap_or(0);
            for (place, source) in stats["sources"].as_array().into_iter().flatten().enumerate() {
                let (dropped, read) = (number(source, "too_long"), number(source, "read"));
                if dropped > 0 {
                    let text = format!("{dropped} of {read} rows of source {} were too long and left out", place + 1);
                    self.warn(Some(self.name(node)), text);
                }
            }
        }
    }

    /// Metrics that say nothing of some rows: their means rest on fewer.
    fn absent_values(&mut self, tables: &[Table]) {
        for table in tables {
            let place = |name: &str| table.columns.iter().position(|column| column == name);
            let (Some(metric), Some(nulls)) = (place("metric"), place("nulls")) else { continue };
            let mut absent: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
            for row in &table.rows {
                if let (Some(metric), Some(number @ 1..)) = (row[metric].as_str(), row[nulls].as_u64()) {
                    let (sum, groups) = absent.entry(metric).or_default();
                    (*sum, *groups) = (*sum + number, *groups + 1);
                }
            }
            let texts: BTreeSet<String> = absent
                .into_iter()
                .map(|(metric, (rows, groups))| {
                    let groups = if groups == 1 { "one group".to_string() } else { format!("{groups} groups") };
                    format!("`{metric}` says nothing of {rows} rows in {groups}: they count nowhere")
                })
                .collect();
            texts.into_iter().for_each(|text| self.warn(Some(table.instance.clone()), text));
        }
    }
}
