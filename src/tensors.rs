//! The header of safetensors files: where which tensor is; and the index of those in several files. Read without the engine,
//! and without belief: a header may say anything.
//!
//! The form is a length (8 bytes, little end first), a JSON header `{name: {dtype, shape, data_offsets}}`, then the data.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// What a header may be long: more than that of any model is.
const LONGEST: u64 = 100 << 20;

/// Where the tensors of a file are.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Where the data begin.
    pub data: u64,
    /// How long the file must be for all of its tensors.
    pub length: u64,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Entry")]
pub struct Tensor {
    /// The type of its elements: `F32`, `BF16`.
    pub dtype: String,
    /// Its length in every direction.
    pub shape: Vec<u64>,
    /// How many elements that are.
    pub elements: u64,
    /// Where it begins, from the beginning of the data.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
}

/// As it is written.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl TryFrom<Entry> for Tensor {
    type Error = &'static str;

    fn try_from(Entry { dtype, shape, data_offsets: (start, end) }: Entry) -> Result<Self, Self::Error> {
        let elements = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
        match elements {
            None => Err("its shape has too many elements"),
            Some(_) if end < start => Err("it ends before it begins"),
            Some(elements) => Ok(Self { dtype, shape, elements, start, end }),
        }
    }
}

/// Reads the header of a file from its beginning. The inner error says why that is none of this form; whether the file
/// is as long as its header says ([`Header::length`]) is not looked at.
///
/// # Errors
/// If the file cannot be read.
pub fn header(file: &mut File) -> io::Result<Result<Header, String>> {
    let length = file.metadata()?.len();
    if length < 8 {
        return Ok(Err(format!("it is only {length} bytes long")));
    }
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST.min(length - 8) {
        return Ok(Err(format!("its header would have {size} bytes")));
    }
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text)?;
    Ok(parse(&text))
}

/// The files that an index (`model.safetensors.index.json`) names, sorted. The error says what is wrong with it.
///
/// # Errors
/// If it is none, or names what is no file of its own folder: somebody else wrote it.
pub fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        Some(name) => Err(format!("it names `{name}`, which is no file of its own folder")),
        None if names.is_empty() => Err("it names no file".to_string()),
        None => Ok(names.into_iter().collect()),
    }
}

fn parse(text: &[u8]) -> Result<Header, String> {
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    // The maker's own words.
    entries.remove("__metadata__");
    let tensors = entries
        .into_iter()
        .map(|(name, entry)| match serde_json::from_value::<Tensor>(entry) {
            Ok(tensor) => Ok((name, tensor)),
            Err(error) => Err(format!("tensor `{}`: {error}", name.escape_debug())),
        })
        .collect::<Result<BTreeMap<String, Tensor>, String>>()?;
    let data = 8 + text.len() as u64;
    let end = tensors.values().map(|tensor| tensor.end).max().unwrap_or(0);
    let length = data.checked_add(end).ok_or("its tensors would end beyond any file")?;
    Ok(Header { data, length, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn read(bytes: &[u8]) -> Result<Header, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        header(&mut file.reopen().unwrap()).unwrap()
    }

    fn of(text: &str) -> Result<Header, String> {
        read(&[&(text.len() as u64).to_le_bytes(), text.as_bytes(), &[0; 4]].concat())
    }

    #[test]
    fn a_header_says_where_the_tensors_are() {
        let text = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
        let found = of(text).unwrap();
        let tensor = Tensor { dtype: "F32".into(), shape: vec![2, 3], elements: 6, start: 0, end: 24 };
        assert_eq!(found.tensors, [("a".to_string(), tensor)].into());
        assert_eq!((found.data, found.length), (8 + text.len() as u64, 32 + text.len() as u64));
        assert_eq!(of("{}").unwrap().length, 10);
    }

    #[test]
    fn an_index_names_files_of_its_own_folder() {
        let index = |map: &str| shards(format!(r#"{{"metadata": {{}}, "weight_map": {map}}}"#).as_bytes());
        assert_eq!(index(r#"{"b": "2.bin", "a": "1.bin", "c": "2.bin"}"#).unwrap(), ["1.bin", "2.bin"]);
        for name in ["../1.bin", "/etc/passwd", "a/b.bin", "..", ""] {
            let error = index(&format!(r#"{{"a": "{name}"}}"#)).unwrap_err();
            assert_eq!(error, format!("it names `{name}`, which is no file of its own folder"));
        }
        assert_eq!(index("{}").unwrap_err(), "it names no file");
        assert!(index(r#"{"a": 1}"#).is_err() && shards(b"{}").is_err() && shards(b"[").is_err());
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let entry = |shape: &str, offsets: &str| {
            of(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)).unwrap_err()
        };
        let most = u64::MAX;
        assert_eq!(entry("[1]", &format!("[0,{most}]")), "its tensors would end beyond any file");
        assert!(entry("[1]", &format!("[0,{}]", most - 70)).contains("beyond any file"));
        assert_eq!(entry(&format!("[{most},2]"), "[0,4]"), "tensor `a`: its shape has too many elements");
        assert_eq!(entry("[4294967296,4294967296,0]", "[0,0]"), "tensor `a`: its shape has too many elements");
        assert_eq!(entry("[1]", "[4,0]"), "tensor `a`: it ends before it begins");
        for (shape, offsets) in
            [("[-1]", "[0,4]"), ("[1.5]", "[0,4]"), ("1", "[0,4]"), ("[1]", "[0]"), ("[1]", "[-4,0]")]
        {
            assert!(entry(shape, offsets).starts_with("tensor `a`: "), "{shape} {offsets}");
        }
        for text in ["", "[]", "{\"a\":1}", "{\"a\":{}}", "{", &"[".repeat(100_000)] {
            assert!(of(text).is_err(), "{text:.20}");
        }
        assert_eq!(read(b"").unwrap_err(), "it is only 0 bytes long");
        for size in [1, LONGEST, LONGEST + 1, most - 7, most] {
            assert_eq!(read(&size.to_le_bytes()).unwrap_err(), format!("its header would have {size} bytes"));
        }
    }
}
