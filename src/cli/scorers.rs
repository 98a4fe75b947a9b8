//! `titer scorers`: what answers can be scored by.

use super::{Exit, Failure, out};
use crate::diagnostic::closest;
use crate::scorer::{self, Better, Definition, Metric};
use crate::settings::{Group as _, Setting};
use crate::stage::score::{Scope, settings_of};
use serde_json::{Value, json};

/// Lists all scorers, or shows all of one.
pub(super) fn show(name: Option<&str>, json: bool) -> Result<Exit, Failure> {
    let shown: Vec<&Definition> = match name {
        None => scorer::ALL.iter().collect(),
        Some(name) => vec![scorer::find(name).ok_or_else(|| unknown(name))?],
    };
    if json {
        out::json(&json!({ "scorers": shown.into_iter().map(as_json).collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    match name {
        None => list(&shown),
        Some(_) => shown.into_iter().for_each(describe),
    }
    Ok(Exit::Done)
}

fn unknown(name: &str) -> Failure {
    let hint = closest(name, scorer::ALL.iter().map(|definition| definition.name));
    let hint = hint.map_or_else(|| "`titer scorers` lists them".to_string(), |near| format!("did you mean `{near}`?"));
    Failure::Other(anyhow::anyhow!("there is no scorer `{name}`: {hint}"))
}

fn list(definitions: &[&Definition]) {
    let width = definitions.iter().map(|definition| definition.name.len()).max().unwrap_or(0);
    for definition in definitions {
        out::say(format!("{:width$}  {}", definition.name, definition.summary));
    }
}

fn describe(definition: &Definition) {
    let Definition { name, version, summary, source, .. } = definition;
    out::say(format!("{name} (version {version}): {summary}"));
    out::say(format!("as: {source}"));
    say_metrics("metrics of a row", definition.metrics);
    say_metrics("metrics of all rows together", definition.pooled);
    say_settings("settings", &settings_of(definition));
    say_settings("settings of every scorer", &Scope::settings());
}

fn say_metrics(title: &str, metrics: &[Metric]) {
    if metrics.is_empty() {
        return;
    }
    out::say(format!("\n{title}:"));
    for Metric { name, range: (least, greatest), better } in metrics {
        let better = match better {
            Better::Higher => "the higher, the better",
            Better::Lower => "the lower, the better",
        };
        let range = match (least.is_finite(), greatest.is_finite()) {
            (true, true) => format!("{least} to {greatest}, "),
            (true, false) => format!("{least} and more, "),
            (false, true) => format!("up to {greatest}, "),
            (false, false) => String::new(),
        };
        out::say(format!("  {name}: {range}{better}"));
    }
}

fn say_settings(title: &str, settings: &[Setting]) {
    if settings.is_empty() {
        return;
    }
    out::say(format!("\n{title}:"));
    for setting in settings {
        let about = setting.schema["description"].as_str().unwrap_or_default();
        let value = match (setting.required, setting.schema.get("default")) {
            (true, _) => " (must be set)".to_string(),
            (false, Some(default)) => format!(" = {default}"),
            (false, None) => String::new(),
        };
        out::say(format!("  {}{value}: {}", setting.name, about.replace("\n\n", "\n").replace('\n', "\n      ")));
    }
}

fn as_json(definition: &Definition) -> Value {
    let metric = |metric: &Metric| {
        let bound = |bound: f64| bound.is_finite().then_some(bound);
        let range = [bound(metric.range.0), bound(metric.range.1)];
        json!({ "name": metric.name, "range": range, "higher_is_better": metric.better == Better::Higher })
    };
    let metrics = |metrics: &[Metric]| metrics.iter().map(metric).collect::<Vec<_>>();
    json!({
        "name": definition.name,
        "version": definition.version,
        "summary": definition.summary,
        "source": definition.source,
        "metrics": metrics(definition.metrics),
        "pooled": metrics(definition.pooled),
        "settings": crate::settings::schema::table(settings_of(definition)),
    })
}
