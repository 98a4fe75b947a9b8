//! Where a file or a model lies that is not of this machine: `hf://owner/name@revision`, `https://host/path#digest`.
//!
//! An address in a manifest is *pinned*: it says which bytes are meant, not only where. A hub has revisions for that (a
//! branch moves, a commit does not); any other server has none, so there the digest of the bytes is part of the address.
//! Knows the form only; `fetch` goes there.

use crate::key::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where.
    pub place: Place,
    /// Digest of the file, or of the model's files (as of a folder with them), if that is pinned.
    pub digest: Option<Digest>,
}

/// Where something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A repository of a hub of models, or a file in it.
    Hub(Repository),
    /// A file, or the folder of a model, on any server: without fragment.
    Web(String),
}

/// What of an address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// The file.
    File,
    /// The files of a model that a run reads.
    Model,
    /// Those of its tokenizer alone.
    Tokenizer,
}

/// The files of a model folder that a run reads, besides its weights and its tokenizer; whatever else lies there (a
/// readme, a repository's `.git`) changes no result.
const MODEL_FILES: [&str; 4] = ["config.json", "generation_config.json", "adapter_config.json", "unchanged.json"];

/// The files that a tokenizer is read from.
const TOKENIZER_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

impl Extent {
    /// Whether a file of that name in a folder belongs to it. Weights in pickles belong to a model only where there are no
    /// others: see [`is_pickle`], [`is_weights`].
    pub fn reads(self, name: &str) -> bool {
        let is_tokenizer = TOKENIZER_FILES.contains(&name);
        match self {
            Self::File => true,
            Self::Tokenizer => is_tokenizer,
            Self::Model => {
                let is_own = is_tokenizer || MODEL_FILES.contains(&name) || is_weights(name) || is_pickle(name);
                is_own || is_part(name)
            }
        }
    }
}

/// Whether a file of that name in a model folder says what stands around an encoder, as sentence-transformers writes it:
/// `modules.json`, how long texts can be, and the files of a part in a folder of its own (`1_Pooling/config.json`).
pub fn is_part(name: &str) -> bool {
    match name.split_once('/') {
        None => name == "modules.json" || name.starts_with("sentence_") && name.ends_with("_config.json"),
        Some((folder, file)) => is_part_folder(folder) && !file.contains('/') && Extent::Model.reads(file),
    }
}

/// Whether a folder of that name in a model folder holds a part of the model: `2_Dense`.
pub fn is_part_folder(name: &str) -> bool {
    let number = name.split_once('_').map(|(number, _)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a file of that name holds weights as safetensors, or says which files do.
pub fn is_weights(name: &str) -> bool {
    let is_shard = name.starts_with("model") && name.ends_with(".safetensors");
    is_shard || matches!(name, "model.safetensors.index.json" | "adapter_model.safetensors")
}

/// Whether a file of that name holds weights as pickles, or says which files do.
pub fn is_pickle(name: &str) -> bool {
    let is_shard =
        name.strip_prefix("pytorch_model").is_some_and(|rest| rest.starts_with(['.', '-']) && rest.ends_with(".bin"));
    is_shard || name == "pytorch_model.bin.index.json"
}

/// A repository of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Whether it is one of data, not of a model.
    pub is_data: bool,
    /// `owner/name`, or `name` alone for the oldest ones.
    pub name: String,
    /// A commit, a branch or a tag.
    pub revision: Option<String>,
    /// A file in it.
    pub file: Option<String>,
}

/// How addresses on a hub begin.
const HUB: &str = "hf://";
/// How repositories of data are told from those of models.
const DATA: &str = "datasets/";
/// The hub that is asked where no other is named.
pub const ENDPOINT: &str = "https://huggingface.co";
/// The branch that is meant where none is named.
pub const BRANCH: &str = "main";

impl Address {
    /// Whether a text is meant as an address, not as a path of this machine.
    pub fn is_meant(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
        })
    }

    /// Reads an address; `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('#') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| {
                    format!("`{digest}` behind the `#` of `{text}` is no digest: 64 hexadecimal digits (BLAKE3)")
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{}` is no address: it has spaces", text.escape_debug()));
        }
        let place = match rest.strip_prefix(HUB) {
            Some(rest) => Place::Hub(Repository::parse(rest).map_err(|reason| format!("`{text}`: {reason}"))?),
            None if is_web(rest) => Place::Web(rest.to_string()),
            None => return Err(format!("`{text}` is no address: `hf://owner/name@revision` or `https://host/path`")),
        };
        Ok(Self { place, digest })
    }

    /// Why it does not say which bytes are meant, if it does not.
    pub fn unpinned(&self) -> Option<String> {
        match &self.place {
            Place::Hub(repository) => match &repository.revision {
                _ if repository.is_pinned() => None,
                None => Some("names no revision: what is there may change".to_string()),
                Some(name) => Some(format!("names `{name}`, which may move: a commit has 40 hexadecimal digits")),
            },
            Place::Web(_) if self.digest.is_none() => Some("has no digest: what is there may change".to_string()),
            Place::Web(_) => None,
        }
    }

    /// The same without the digest: what was fetched is known by that.
    pub fn bare(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The last part: how the file is called, or the model.
    pub fn name(&self) -> &str {
        let path = match &self.place {
            Place::Hub(repository) => repository.file.as_deref().unwrap_or(&repository.name),
            Place::Web(url) => url.split('?').next().unwrap_or(url).trim_end_matches('/'),
        };
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// Whether a host is this machine itself: what is secret may go there without TLS.
pub fn is_this_machine(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

/// Whether a text is the address of something on a server.
fn is_web(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    // Who puts a name and a word before an `@` has a secret in the manifest.
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && !host.contains('@') && rest.contains('/')
    })
}

impl Repository {
    fn parse(text: &str) -> Result<Self, String> {
        let (is_data, text) = match text.strip_prefix(DATA) {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("models/").unwrap_or(text)),
        };
        let (name, revision, file) = match text.split_once('@') {
            Some((name, rest)) => match rest.split_once('/') {
                Some((revision, file)) => (name, Some(revision), Some(file)),
                None => (name, Some(rest), None),
            },
            None => {
                let mut parts = text.splitn(3, '/');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(owner), Some(name), file) => (&text[..owner.len() + 1 + name.len()], None, file),
                    _ => (text, None, None),
                }
            }
        };
        let is_part = |part: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !part.is_empty() && part.bytes().all(is_plain) && !part.starts_with('.')
        };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_part(part)) {
            return Err(format!("`{name}` is no name of a repository: `owner/name`"));
        }
        if revision.is_some_and(|revision| !is_part(revision)) {
            return Err("behind the `@` stands no revision".to_string());
        }
        if file.is_some_and(|file| file.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            return Err("behind the revision stands no path of a file".to_string());
        }
        let owned = |text: &str| text.to_string();
        Ok(Self { is_data, name: owned(name), revision: revision.map(owned), file: file.map(owned) })
    }

    /// Whether the revision is a commit.
    pub fn is_pinned(&self) -> bool {
        let is_commit = |name: &String| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.revision.as_ref().is_some_and(is_commit)
    }

    /// The revision that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(BRANCH)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Hub(repository) => {
                write!(f, "{HUB}{}{}", if repository.is_data { DATA } else { "" }, repository.name)?;
                if let Some(revision) = &repository.revision {
                    write!(f, "@{revision}")?;
                }
                if let Some(file) = &repository.file {
                    write!(f, "/{file}")?;
                }
            }
            Place::Web(url) => f.write_str(url)?,
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "#{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn read(text: &str) -> Address {
        let address = Address::parse(text).unwrap();
        assert_eq!(address.to_string(), text);
        address
    }

    fn hub(text: &str) -> Repository {
        match read(text).place {
            Place::Hub(repository) => repository,
            Place::Web(url) => panic!("{url}"),
        }
    }

    #[test]
    fn addresses_are_read_and_written() {
        let model = hub(&format!("hf://meta-llama/Llama-3.2-1B@{COMMIT}"));
        assert_eq!((model.name.as_str(), model.revision()), ("meta-llama/Llama-3.2-1B", COMMIT));
        assert!(model.is_pinned() && !model.is_data && model.file.is_none());
        assert_eq!(hub("hf://gpt2").revision(), "main");
        let file = hub(&format!("hf://datasets/lab/rows@{COMMIT}/data/train.jsonl"));
        assert!(file.is_data);
        assert_eq!(file.file.as_deref(), Some("data/train.jsonl"));
        assert_eq!(hub("hf://datasets/lab/rows/a/b.jsonl").file.as_deref(), Some("a/b.jsonl"));
        let digest = Digest::of(b"x");
        let web = read(&format!("https://lab.org/m/rows.jsonl#{digest}"));
        assert_eq!((web.digest, web.name()), (Some(digest), "rows.jsonl"));
        assert_eq!(web.bare().to_string(), "https://lab.org/m/rows.jsonl");
        assert_eq!(read("http://127.0.0.1:80/models/tiny/").name(), "tiny");
    }

    #[test]
    fn parts_of_sentence_encoders_belong_to_their_models() {
        for name in ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/model.safetensors"]
        {
            assert!(Extent::Model.reads(name) && !Extent::Tokenizer.reads(name), "{name}");
        }
        for name in ["onnx/config.json", "1_Pooling/README.md", "1_Pooling/x/config.json", "checkpoint_1/config.json"] {
            assert!(!Extent::Model.reads(name), "{name}");
        }
    }

    #[test]
    fn only_what_says_which_bytes_are_meant_is_pinned() {
        let unpinned = |text: &str| read(text).unpinned().unwrap_or_default();
        assert_eq!(unpinned(&format!("hf://a/b@{COMMIT}")), "");
        assert_eq!(unpinned(&format!("https://lab.org/x#{}", Digest::of(b"x"))), "");
        assert!(unpinned("hf://a/b").contains("no revision"));
        assert!(unpinned("hf://a/b@main").contains("`main`, which may move"));
        assert!(unpinned("hf://a/b@0123456").contains("40 hexadecimal digits"));
        assert!(unpinned("https://lab.org/x").contains("no digest"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, reason) in [
            ("hf://", "no name of a repository"),
            ("hf://a/../b@main", "no name of a repository"),
            ("hf://a/b/c@main", "no name of a repository"),
            ("hf://a/b@", "no revision"),
            ("hf://a/b@main/../c", "no path of a file"),
            ("hf://a/b@main/x//y", "no path of a file"),
            ("https://", "no address"),
            ("https://lab.org", "no address"),
            ("https://me:secret@lab.org/x", "no address"),
            ("ftp://lab.org/x", "no address"),
            ("https://lab.org/a b", "spaces"),
            ("hf://a/b#123", "no digest"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for (text, is_meant) in [("hf://a", true), ("s3://b/c", true), ("data/a.jsonl", false), ("a b://c", false)] {
            assert_eq!(Address::is_meant(text), is_meant, "{text}");
        }
    }
}
