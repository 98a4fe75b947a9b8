//! Results that were made elsewhere: what a kind promises of its outputs, as far as it can be seen without the engine.

use super::{Kind, Recipe, score};
use crate::diagnostic::Diagnostic;
use crate::row::{self, INSTRUCTION, OUTPUT, PREDICTION, ReadError, Row};
use crate::scorer;
use crate::tensors;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One output as it was given.
#[derive(Clone, Debug)]
pub struct Given {
    /// The output's name.
    pub output: &'static str,
    /// The file or folder that is to be kept.
    pub path: PathBuf,
    /// What messages call it: the path as the person wrote it.
    pub name: String,
}

/// What is wrong with outputs that are to be those of `recipe`. No column may be named like one of the pipeline's axes.
pub fn check(recipe: &Recipe, given: &[Given], axes: &BTreeSet<&str>) -> Vec<Diagnostic> {
    given.iter().filter_map(|given| check_one(recipe, given, axes).err()).collect()
}

fn check_one(recipe: &Recipe, given: &Given, axes: &BTreeSet<&str>) -> Result<(), Diagnostic> {
    if given.path.is_dir() {
        return match recipe.kind() {
            Kind::Train => check_model(recipe, given),
            _ => Ok(()),
        };
    }
    let ending = given.path.extension().and_then(|ending| ending.to_str());
    match ending {
        Some("jsonl") => check_rows(recipe, given, axes),
        Some("json") => read_json(given, &given.path).map(|_| ()),
        _ => Ok(()),
    }
}

fn check_rows(recipe: &Recipe, given: &Given, axes: &BTreeSet<&str>) -> Result<(), Diagnostic> {
    let metrics = metrics(recipe);
    for item in row::read(&given.path, &given.name)? {
        let (line, row) = item?;
        check_row(recipe, given.output, &row, metrics.as_deref(), axes)
            .map_err(|message| ReadError::new(&given.name, Some(line), message))?;
    }
    Ok(())
}

/// The metrics that the scorer of a score stage gives.
fn metrics(recipe: &Recipe) -> Option<Vec<String>> {
    let Recipe::Score(recipe) = recipe else { return None };
    scorer::find(&recipe.scorer).map(|scorer| scorer.metric_names(&recipe.params))
}

/// What a command writes is the person's own; what titer's work writes has a known form.
fn check_row(
    recipe: &Recipe,
    output: &str,
    row: &Row,
    metrics: Option<&[String]>,
    axes: &BTreeSet<&str>,
) -> Result<(), String> {
    let needed: &[&str] = match recipe {
        Recipe::Mix(_) => &[INSTRUCTION, OUTPUT],
        Recipe::Predict(_) | Recipe::Api(_) => &[PREDICTION, OUTPUT],
        _ => &[],
    };
    if let Some(column) = needed.iter().find(|column| row::text(row, column).is_none()) {
        return Err(format!("the column `{column}` is missing; there are {}", row::columns(row)));
    }
    if output == "scores" {
        check_scores(row, metrics.unwrap_or_default())?;
    }
    match row.keys().find(|name| output != "metrics" && axes.contains(name.as_str())) {
        Some(name) => Err(format!("the column `{name}` is named like an axis: rename one of them")),
        None => Ok(()),
    }
}

fn check_scores(row: &Row, metrics: &[String]) -> Result<(), String> {
    let name = score::SCORES;
    let Some(Json::Object(scores)) = row.get(name) else {
        return Err(format!("the column `{name}` is missing: an object with a number (or null) per metric"));
    };
    if let Some(metric) = metrics.iter().find(|metric| !scores.contains_key(*metric)) {
        let known: Vec<&str> = scores.keys().map(String::as_str).collect();
        return Err(format!("`{name}` has no `{metric}`: it has {}", known.join(", ")));
    }
    match scores.iter().find(|(_, value)| !value.is_number() && !value.is_null()) {
        Some((metric, value)) => Err(format!("`{name}.{metric}` is {value}: expected a number or null")),
        None => Ok(()),
    }
}

fn check_model(recipe: &Recipe, given: &Given) -> Result<(), Diagnostic> {
    let wrong = |message: String| Diagnostic::in_file(&given.name, None, message);
    let has = |name: &str| given.path.join(name).is_file();
    // What a training without rows leaves behind.
    if has("unchanged.json") {
        return Ok(());
    }
    let (needed, what): (&[&str], _) = match recipe.is_whole() {
        true => (&["config.json", "tokenizer.json"], "a whole model"),
        false => (&["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
    };
    if let Some(missing) = needed.iter().find(|name| !has(name)) {
        return Err(wrong(format!("the folder has no `{missing}`: the stage makes {what}")));
    }
    for file in files(&given.path).map_err(|error| wrong(format!("the folder cannot be read: {error}")))? {
        let inner = Given { name: format!("{}/{file}", given.name), ..given.clone() };
        let path = given.path.join(&file);
        if file.ends_with(".json") {
            read_json(&inner, &path)?;
        } else if file.ends_with(".safetensors") {
            check_safetensors(&path).map_err(|message| Diagnostic::in_file(&inner.name, None, message))?;
        }
    }
    let has_weights = !recipe.is_whole() || has("model.safetensors") || has("model.safetensors.index.json");
    if has_weights {
        Ok(())
    } else {
        Err(wrong("the folder has no `model.safetensors`: weights are read from no other format".into()))
    }
}

fn files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn read_json(given: &Given, path: &Path) -> Result<Json, Diagnostic> {
    let wrong = |line, message: String| Diagnostic::in_file(&given.name, line, message);
    let bytes = std::fs::read(path).map_err(|error| wrong(None, format!("the file cannot be read: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| wrong(Some(error.line() as u64), format!("the file is no JSON: {error}")))
}

/// Whether a file begins as safetensors do, and is as long as it says.
fn check_safetensors(path: &Path) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("the file cannot be read: {error}");
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let header = tensors::header(&mut file).map_err(unreadable)?;
    match header.map_err(|reason| format!("the file is no safetensors or is cut off: {reason}"))?.length {
        expected if expected == length => Ok(()),
        expected => Err(format!("the file is cut off: it has {length} bytes of {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Table;
    use serde_json::json;

    /// The recipe of a stage with these settings.
    fn recipe(kind: Kind, text: &str) -> Recipe {
        let mut problems = crate::diagnostic::Problems::default();
        let value = crate::settings::parse(text, 0, &mut problems).unwrap();
        let table: &Table = value.as_table().unwrap();
        let stages = super::super::decode(kind, table, value.span, &mut problems);
        assert!(problems.is_empty(), "{:?}", problems.into_vec());
        stages.unwrap().remove(0).recipe
    }

    fn wrong(recipe: &Recipe, output: &'static str, file: &str, bytes: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, bytes).unwrap();
        let given = Given { output, path, name: file.to_string() };
        check(recipe, &[given], &["n"].into()).pop().map(|problem| problem.message)
    }

    #[test]
    fn rows_must_have_what_the_kind_promises() {
        let predict = recipe(Kind::Predict, "model = \"m\"\ndata = \"d.jsonl\"");
        let of = |text: &str| wrong(&predict, "predictions", "p.jsonl", text.as_bytes());
        assert_eq!(of("{\"prediction\":\"a\",\"output\":\"b\"}\n"), None);
        assert_eq!(of("{\"output\":\"b\"}\n").unwrap(), "the column `prediction` is missing; there are `output`");
        assert!(of("{\"prediction\":\"a\",\"output\":\"b\"}\n{\"prediction\":").unwrap().contains("cut off"));
        assert!(of("{\"prediction\":\"a\",\"output\":\"b\",\"n\":1}").unwrap().contains("named like an axis"));

        let score = recipe(Kind::Score, "predictions = \"d.jsonl\"\nscorers = [\"exact_match\"]");
        let metric = scorer::find("exact_match").unwrap().metrics[0].name;
        let of = |scores: Json| {
            let row = json!({ "id": "1", "scores": scores });
            wrong(&score, "scores", "s.jsonl", row.to_string().as_bytes())
        };
        assert_eq!(of(json!({ metric: 1.0 })), None);
        assert!(of(json!({ "other": 1.0 })).unwrap().contains(metric));
        assert!(of(json!({ metric: "1" })).unwrap().contains("expected a number or null"));
        assert!(of(json!(1)).unwrap().contains("the column `scores` is missing"));
    }

    #[test]
    fn an_adapter_is_looked_at_from_outside() {
        let train = recipe(Kind::Train, "data = \"d.jsonl\"\nbase = \"m\"\nlora = { r = 8, alpha = 16 }");
        let folder = tempfile::tempdir().unwrap();
        let given = Given { output: "model", path: folder.path().to_path_buf(), name: "adapter".into() };
        let wrong =
            || check(&train, std::slice::from_ref(&given), &BTreeSet::new()).pop().map(|problem| problem.message);
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        assert!(wrong().unwrap().contains("no `adapter_config.json`"));
        write("adapter_config.json", b"{\"r\": 8}");
        assert!(wrong().unwrap().contains("no `adapter_model.safetensors`"));
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend([0; 4]);
        write("adapter_model.safetensors", &bytes);
        assert_eq!(wrong(), None);
        write("adapter_model.safetensors", &bytes[..bytes.len() - 1]);
        assert!(wrong().unwrap().contains("cut off: it has"));
        write("adapter_model.safetensors", &[0xff; 64]);
        assert!(wrong().unwrap().contains("no safetensors"));
        // A header that says anything: that the last tensor ends where no number goes.
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,{}]}}}}"#, u64::MAX);
        write("adapter_model.safetensors", &[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat());
        assert!(wrong().unwrap().contains("beyond any file"));
        write("adapter_config.json", b"{");
        assert!(wrong().unwrap().contains("no JSON"));
    }
}
