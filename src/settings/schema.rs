//! What may stand in a table, as JSON Schema (Draft 4: the newest that TOML editors read). It is made by the declarations
//! that read the settings, so that neither can know what the other does not.

use super::Decode;
use serde_json::{Map, Value as Json, json};

/// A JSON Schema.
pub type Schema = Json;

/// One setting of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it can be; with its description and its default.
    pub schema: Schema,
    /// Whether it must be there.
    pub required: bool,
}

impl Setting {
    /// The setting `name` of type `T`; `docs` are the lines of its doc comment.
    pub fn of<T: Decode>(name: &'static str, docs: &[&str]) -> Self {
        Self { name, schema: described(T::schema(), docs), required: T::absent().is_none() }
    }

    /// The same with a default. Nothing (null) is what an absent setting is anyway.
    #[must_use]
    pub fn or(mut self, mut default: Json) -> Self {
        self.required = false;
        if let Json::Object(entries) = &mut default {
            entries.retain(|_, value| !value.is_null());
        }
        if !default.is_null() {
            self.schema["default"] = default;
        }
        self
    }

    /// The same with a least and a greatest value.
    #[must_use]
    pub fn within<T: Into<Json> + Copy>(mut self, range: &std::ops::RangeInclusive<T>) -> Self {
        self.schema["minimum"] = (*range.start()).into();
        self.schema["maximum"] = (*range.end()).into();
        self
    }
}

/// A table of these settings and no others.
pub fn table(settings: Vec<Setting>) -> Schema {
    let required: Vec<&str> = settings.iter().filter(|setting| setting.required).map(|setting| setting.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false });
    // Draft 4 wants a list that is not empty.
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    let properties = settings.into_iter().map(|setting| (setting.name.to_string(), setting.schema));
    schema["properties"] = properties.collect::<Map<_, _>>().into();
    schema
}

/// A table with keys of the person's own, all of one type.
pub fn map(item: &Schema) -> Schema {
    json!({ "type": "object", "additionalProperties": item })
}

/// A list.
pub fn list(item: &Schema) -> Schema {
    json!({ "type": "array", "items": item })
}

/// A list of at least one item.
pub fn some(item: &Schema) -> Schema {
    json!({ "type": "array", "items": item, "minItems": 1 })
}

/// One of several forms.
pub fn any_of(forms: impl IntoIterator<Item = Schema>) -> Schema {
    json!({ "anyOf": forms.into_iter().collect::<Vec<_>>() })
}

/// One of a few words, each with the lines of its doc comment.
pub fn words(words: &[(&str, &[&str])]) -> Schema {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let docs: Vec<String> = words
        .iter()
        .map(|(word, docs)| match text(docs) {
            text if text.is_empty() => format!("- `{word}`"),
            text => format!("- `{word}`: {text}"),
        })
        .collect();
    json!({ "enum": names, "description": docs.join("\n") })
}

/// The schema with a description, before one that it has: what a setting is for comes before what it can be.
pub fn described(mut schema: Schema, docs: &[&str]) -> Schema {
    let own = text(docs);
    if !own.is_empty() {
        let what = schema.get("description").and_then(Json::as_str).filter(|what| *what != own);
        schema["description"] = what.map_or(own.clone(), |what| format!("{own}\n\n{what}")).into();
    }
    schema
}

/// The lines of a doc comment as one text for people who do not read rustdoc.
fn text(docs: &[&str]) -> String {
    let lines: Vec<&str> = docs.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    lines.join(" ").replace("[`", "`").replace("`]", "`")
}
