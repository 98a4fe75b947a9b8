//! The key of a stage: what is hashed, how, and in what two keys differ.
//!
//! Pure: knows neither files nor stages. A recipe is JSON here, an input is a role and a digest.

mod difference;

pub use difference::{Change, difference};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Version of the key's own form; part of every key.
pub const FORMAT: u32 = 1;

/// A BLAKE3 digest; 64 lower-case hexadecimal digits as text and in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve digits: enough to tell digests apart by eye.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: 64 hexadecimal digits are expected")]
pub struct NotADigest(String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        blake3::Hash::from_hex(text).map(Self::from).map_err(|_| NotADigest(text.to_string()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// JSON in one form only: no white space, object entries sorted by name (by bytes of UTF-8), entries that are null left
/// out. So a setting that is new and not set changes no key.
pub fn canonical(value: &Json) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Json, text: &mut String) {
    match value {
        Json::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().filter(|(_, value)| !value.is_null()).collect();
            entries.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (i, (name, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&Json::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Json::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// Everything that a stage's output depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDocument {
    /// [`FORMAT`] of the program that made it.
    pub format: u32,
    /// Name of the kind of stage.
    pub kind: String,
    /// Version of what the kind does.
    pub version: u32,
    /// All settings that can change a byte of the output.
    pub recipe: Json,
    /// What is read.
    pub inputs: Vec<KeyInput>,
}

/// One input, by content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInput {
    /// What the stage calls it.
    pub role: String,
    /// Axis values that show in the output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Json>,
    /// Digest of the content.
    pub digest: Digest,
}

impl KeyDocument {
    /// A document of this [`FORMAT`]. Inputs are put in order of their roles; those of one role keep their order, which
    /// is part of the key.
    pub fn new(kind: impl Into<String>, version: u32, recipe: Json, mut inputs: Vec<KeyInput>) -> Self {
        inputs.sort_by(|a, b| a.role.cmp(&b.role));
        Self { format: FORMAT, kind: kind.into(), version, recipe, inputs }
    }

    /// The text that is hashed: [`canonical`] JSON of the document.
    pub fn canonical(&self) -> String {
        // Cannot fail: no map here has keys other than strings, and a digest is a string.
        canonical(&serde_json::to_value(self).unwrap_or_default())
    }

    /// A digest of everything but the input of this role and these settings: equal for all work that differs in nothing else.
    pub fn scope(&self, role: &str, settings: &[&str]) -> Digest {
        let mut rest = self.clone();
        rest.inputs.retain(|input| input.role != role);
        if let Some(recipe) = rest.recipe.as_object_mut() {
            recipe.retain(|name, _| !settings.contains(&name.as_str()));
        }
        rest.key()
    }

    /// BLAKE3 of [`KeyDocument::canonical`].
    pub fn key(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn input(role: &str, labels: Json, content: &str) -> KeyInput {
        let labels = serde_json::from_value(labels).unwrap();
        KeyInput { role: role.into(), labels, digest: Digest::of(content.as_bytes()) }
    }

    pub(super) fn document(recipe: Json, inputs: Vec<KeyInput>) -> KeyDocument {
        KeyDocument::new("train", 1, recipe, inputs)
    }

    #[test]
    fn canonical_text_has_one_form() {
        let value = json!({"b": 1, "a": {"z": null, "y": [1.0, null, "é\n"]}, "c": null});
        assert_eq!(canonical(&value), r#"{"a":{"y":[1.0,null,"é\n"]},"b":1}"#);
    }

    /// Keys are on people's disks: a change of this value throws all caches away, so it must be meant.
    #[test]
    fn a_key_is_pinned() {
        let document = document(
            json!({"seed": 42, "lora": {"r": 8, "alpha": 16.5}, "base": null}),
            vec![input("data", json!({}), "rows"), input("base", json!({"n": 20}), "weights")],
        );
        assert_eq!(
            document.canonical(),
            format!(
                r#"{{"format":1,"inputs":[{{"digest":"{}","labels":{{"n":20}},"role":"base"}},{{"digest":"{}","role":"data"}}],"kind":"train","recipe":{{"lora":{{"alpha":16.5,"r":8}},"seed":42}},"version":1}}"#,
                Digest::of(b"weights"),
                Digest::of(b"rows")
            )
        );
        assert_eq!(document.key().to_string(), "73f8a81c28a47b07f33be23644fd849316ba538ac0fa550c187d700446193a2a");
        let read: KeyDocument = serde_json::from_str(&document.canonical()).unwrap();
        assert_eq!(read.key(), document.key());
    }

    #[test]
    fn a_digest_survives_text() {
        let digest = Digest::of(b"");
        // BLAKE3 of nothing, from the reference test vectors.
        assert_eq!(digest.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("af13".parse::<Digest>().unwrap_err().to_string().contains("`af13`"));
    }

    #[test]
    fn order_of_roles_does_not_matter_but_order_within_a_role_does() {
        let (a, b) = (input("source", json!({}), "a"), input("source", json!({}), "b"));
        let base = input("base", json!({}), "w");
        let one = document(json!({}), vec![a.clone(), base.clone(), b.clone()]);
        let two = document(json!({}), vec![base.clone(), a.clone(), b.clone()]);
        let three = document(json!({}), vec![base, b, a]);
        assert_eq!(one.key(), two.key());
        assert_ne!(two.key(), three.key());
    }
}
