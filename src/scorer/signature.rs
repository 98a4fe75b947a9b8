//! What sacrebleu's scores have in common: the signature that says how they were made.

use serde_json::{Value, json};

/// The version of sacrebleu that the scores are equal to.
const VERSION: &str = "2.6.0";

/// [`Scorer::add`](super::Scorer::add) for counts whose last one is the row's number of references: it is not summed, but
/// becomes -1 where rows differ.
pub(super) fn add(sums: &mut Vec<f64>, counts: &[f64], times: f64) {
    if times == 0.0 {
        return;
    }
    let Some((references, counts)) = counts.split_last() else { return };
    let before = sums.pop();
    sums.resize(counts.len(), 0.0);
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += times * count;
    }
    let same = before.is_none_or(|before| before == *references);
    sums.push(if same { *references } else { -1.0 });
}

/// The signature of scores whose sums end with the number of references. `settings` are pairs of a name and a value.
pub(super) fn signature(sums: &[f64], settings: &[(&str, &str)]) -> String {
    let references = match sums.last() {
        Some(references) if *references >= 0.0 => references.to_string(),
        _ => "var".to_string(),
    };
    let mut text = format!("nrefs:{references}");
    for (name, value) in settings {
        text.push_str(&format!("|{name}:{value}"));
    }
    text + "|version:" + VERSION
}

/// `yes` or `no`, as signatures have it.
pub(super) fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// `mixed` or `lc`, as signatures have it.
pub(super) fn case(lowercase: bool) -> &'static str {
    if lowercase { "lc" } else { "mixed" }
}

/// A count as JSON: without a point, where it is whole.
#[expect(clippy::cast_possible_truncation, reason = "counts are far below 2^53")]
pub(super) fn whole(count: f64) -> Value {
    if count.fract() == 0.0 { json!(count as i64) } else { json!(count) }
}
