//! The language as JSON Schema (Draft 4), for editors.
//!
//! What a stage may say comes from the forms that read it ([`stage::schema`]); here it gets what every stage has and what
//! stands around the stages. A schema sees one file as it is written, so it must allow what another file or
//! `[defaults.KIND]` may supply: a setting is called required only within lists, which are never merged.

use super::CacheSettings;
use crate::resources::Limits;
use crate::settings::{Decode as _, Schema, schema};
use crate::stage::{self, Kind, Require};
use serde_json::{Map, Value as Json, json};

/// A setting that is no form's: name, description, what it can be.
pub(super) type Entry = (&'static str, &'static str, fn() -> Schema);

/// What stands at the top of a manifest besides the kinds.
pub(super) const TOP: [Entry; 12] = [
    ("titer", "Version of the manifest language.", || json!({ "enum": [super::document::FORMAT] })),
    (
        "extends",
        "The manifest that this one is built on: tables are merged by key, anything else is replaced.",
        || json!({ "type": "string", "minLength": 1 }),
    ),
    (
        "name",
        "The pipeline's name: results are shown in `out/NAME/`; by default the name of the file.",
        || json!({ "type": "string", "pattern": NAME }),
    ),
    ("seed", "Default of the stages that draw random numbers.", u64::schema),
    ("targets", "What `titer run` makes when it is not told; by default all that nobody reads.", targets),
    ("axes", "What varies: each stage that names an axis, or reads one that does, is made once per value.", axes),
    ("params", "Single values, for `{name}` in settings; `--set name=value` changes one for a call.", || {
        named(&json!({}))
    }),
    ("limits", "What the jobs may use at once, all together; changes no result.", Limits::schema),
    (
        "require",
        "What the results of trainings and predictions must have been made on, where a stage does not say it itself.",
        Require::schema,
    ),
    ("cache", "A second cache that machines share; changes no result.", CacheSettings::schema),
    ("defaults", "Settings that all stages of a kind share: `[defaults.train]`.", || kinds(reference)),
    ("variant", "Other axes, params and targets under a name: `titer run --variant smoke`.", || {
        named(&table(&VARIANT))
    }),
];

/// What a variant replaces.
pub(super) const VARIANT: [Entry; 3] = [
    ("axes", "Axes with other values.", axes),
    ("params", "Parameters with other values.", || named(&json!({}))),
    ("targets", "What `titer run` makes.", targets),
];

/// What every stage has besides the settings of its kind.
const EVERY_STAGE: [Entry; 2] = [
    (super::expand::OVER, "Axes that the stage varies over although it names them nowhere else.", || {
        schema::list(&String::schema())
    }),
    (super::expand::ONLY, "Values of its axes that the stage is narrowed to: `{ n = [0, 1000] }`.", || {
        schema::map(&schema::any_of([scalar(), schema::list(&scalar())]))
    }),
];

/// Letters, digits, `_` and `-`.
const NAME: &str = "^[A-Za-z0-9_-]+$";
/// A placeholder: `{axis}`, `{axis.field}`, `{param}`.
const PLACEHOLDER: &str = r"\{[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\}";

/// The schema of a manifest.
pub fn schema() -> Schema {
    let mut root = table(&TOP);
    root["$schema"] = "http://json-schema.org/draft-04/schema#".into();
    root["title"] = "titer manifest".into();
    root["description"] = "A pipeline of mix → train → predict → score → aggregate stages.".into();
    root["required"] = json!(["titer"]);
    if let (Json::Object(stages), Json::Object(properties)) =
        (kinds(|kind| named(&reference(kind)))["properties"].take(), &mut root["properties"])
    {
        properties.extend(stages);
    }
    let definition = |kind: Kind| (kind.name().to_string(), stage(kind));
    root["definitions"] = Kind::ALL.into_iter().map(definition).collect::<Map<_, _>>().into();
    root
}

fn stage(kind: Kind) -> Schema {
    let mut schema = below(stage::schema(kind), false);
    if let Json::Object(properties) = &mut schema["properties"] {
        properties.extend(entries(&EVERY_STAGE));
    }
    schema
}

fn reference(kind: Kind) -> Schema {
    json!({ "$ref": format!("#/definitions/{kind}") })
}

fn kinds(of: impl Fn(Kind) -> Schema) -> Schema {
    let properties: Map<_, _> = Kind::ALL.into_iter().map(|kind| (kind.name().to_string(), of(kind))).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn table(settings: &[Entry]) -> Schema {
    let properties: Map<_, _> = entries(settings).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn entries(settings: &[Entry]) -> impl Iterator<Item = (String, Schema)> + '_ {
    settings.iter().map(|(name, docs, of)| ((*name).to_string(), schema::described(of(), &[docs])))
}

/// A table of things with names of the person's own.
fn named(item: &Schema) -> Schema {
    json!({ "type": "object", "additionalProperties": false, "patternProperties": { NAME: item } })
}

fn targets() -> Schema {
    schema::list(&schema::described(String::schema(), &["A kind, a stage or instances of it: `train.adapter[n=80]`."]))
}

fn axes() -> Schema {
    let list = schema::described(schema::some(&scalar()), &["The values."]);
    let fields = json!({ "type": "object", "additionalProperties": { "type": "object" }, "minProperties": 1 });
    let fields =
        schema::described(fields, &["Values with fields: `{axis}` is a value's name, `{axis.field}` a field."]);
    named(&schema::any_of([list, fields]))
}

fn scalar() -> Schema {
    json!({ "type": ["string", "number", "boolean"] })
}

/// The schema of a value below a stage, where a placeholder may stand in place of anything.
fn value(schema: Schema, in_list: bool) -> Schema {
    let mut schema = below(schema, in_list);
    if takes_any_text(&schema) {
        return schema;
    }
    // A word may have a placeholder in it; other values must be one.
    let pattern = if has_words(&schema) { PLACEHOLDER.to_string() } else { format!("^{PLACEHOLDER}$") };
    let placeholder = json!({ "type": "string", "pattern": pattern });
    if let Some(Json::Array(forms)) = schema.get_mut("anyOf") {
        forms.push(placeholder);
        return schema;
    }
    let said: Map<_, _> = ["description", "default"]
        .into_iter()
        .filter_map(|name| Some((name.to_string(), schema.as_object_mut()?.shift_remove(name)?)))
        .collect();
    let mut either = schema::any_of([schema, placeholder]);
    if let Json::Object(either) = &mut either {
        either.extend(said);
    }
    either
}

fn below(mut schema: Schema, in_list: bool) -> Schema {
    let Json::Object(parts) = &mut schema else { return schema };
    if !in_list {
        parts.shift_remove("required");
    }
    for (name, part) in parts.iter_mut() {
        match (name.as_str(), &mut *part) {
            ("items", part) => *part = value(part.take(), true),
            ("additionalProperties", Json::Object(_)) => *part = value(part.take(), in_list),
            ("properties", Json::Object(properties)) => {
                properties.values_mut().for_each(|property| *property = value(property.take(), in_list));
            }
            ("anyOf", Json::Array(forms)) => {
                forms.iter_mut().for_each(|form| *form = below(form.take(), in_list));
            }
            _ => {}
        }
    }
    schema
}

fn forms(schema: &Schema) -> impl Iterator<Item = &Schema> {
    schema.get("anyOf").and_then(Json::as_array).into_iter().flatten()
}

fn takes_any_text(schema: &Schema) -> bool {
    let is_text = match schema.get("type") {
        Some(Json::Array(types)) => types.iter().any(|kind| kind == "string"),
        kind => kind.is_some_and(|kind| kind == "string") && schema.get("enum").is_none(),
    };
    let is_anything = ["type", "enum", "anyOf"].iter().all(|name| schema.get(*name).is_none());
    is_text || is_anything || forms(schema).any(takes_any_text)
}

fn has_words(schema: &Schema) -> bool {
    schema.get("enum").is_some() || forms(schema).any(has_words)
}

#[cfg(test)]
mod tests;
