//! What a hub says of a repository, and which of its files are wanted.

use super::{Expected, Fetcher, Wanted};
use crate::address::{Address, Extent, Repository, is_part};
use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The files of a model beside its weights; those of an adapter among them.
pub(super) const SMALL_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Weights: in one file, or in shards that an index names. The first that is there is read.
pub(super) const WEIGHTS: [(&str, &str); 2] =
    [("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

/// A repository at a revision.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit that it is at.
    pub(super) commit: String,
    files: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

/// A file that is not in git itself.
#[derive(Deserialize)]
struct Large {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Asks the hub.
    pub(super) fn read(fetcher: &Fetcher<'_>, address: &Address, repository: &Repository) -> anyhow::Result<Self> {
        let kind = if repository.is_data { "datasets" } else { "models" };
        let path = format!("api/{kind}/{}/revision/{}?blobs=true", repository.name, repository.revision());
        let url = fetcher.settings.endpoint.join(&path)?;
        let text = fetcher.web.text(&url).map_err(|trouble| fetcher.explain(trouble, address, address.name()))?;
        let host = fetcher.settings.endpoint.host_str().unwrap_or_default();
        Self::parse(&text).with_context(|| format!("`{address}`: what `{host}` answers is not what a hub says"))
    }

    fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let answer: Answer = serde_json::from_slice(text)?;
        let is_commit = answer.sha.len() == 40 && answer.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(is_commit, "it names no commit");
        let expected = |sibling: Sibling| {
            let Sibling { rfilename, size, blob_id, lfs } = sibling;
            let expected = match lfs {
                // The blob of a large file is a pointer to it.
                Some(Large { sha256, size: length }) => Expected { size: length.or(size), sha256, git: None },
                None => Expected { size, sha256: None, git: blob_id },
            };
            (rfilename, expected)
        };
        Ok(Self { commit: answer.sha, files: answer.siblings.into_iter().map(expected).collect() })
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The names of the files of a model that a run reads.
    fn model(&self, extent: Extent) -> anyhow::Result<Vec<String>> {
        let is_wanted = |name: &&&str| extent.reads(name) && self.has(name);
        let mut names: Vec<String> = SMALL_FILES.iter().filter(is_wanted).map(ToString::to_string).collect();
        if extent == Extent::Tokenizer {
            ensure!(self.has("tokenizer.json"), "it has no `tokenizer.json`");
            return Ok(names);
        }
        names.extend(self.files.keys().filter(|name| is_part(name)).cloned());
        ensure!(self.has("config.json") || self.has("adapter_config.json"), "it is no model: it has no `config.json`");
        for (single, index) in WEIGHTS {
            let stem = single.split('.').next().unwrap_or(single);
            let ending = single.rsplit('.').next().unwrap_or(single);
            let is_shard =
                |name: &&String| name.starts_with(&format!("{stem}-")) && name.ends_with(&format!(".{ending}"));
            if self.has(single) {
                names.push(single.to_string());
                return Ok(names);
            }
            if self.has(index) {
                names.push(index.to_string());
                names.extend(self.files.keys().filter(|name| !name.contains('/')).filter(is_shard).cloned());
                return Ok(names);
            }
        }
        ensure!(self.has("adapter_model.safetensors"), "it has no weights as safetensors, and no `pytorch_model.bin`");
        Ok(names)
    }
}

/// The files that are wanted of a repository.
pub(super) fn files(
    fetcher: &Fetcher<'_>,
    address: &Address,
    repository: &Repository,
    extent: Extent,
) -> anyhow::Result<Vec<Wanted>> {
    let listing = Listing::read(fetcher, address, repository)?;
    if repository.is_pinned() && Some(&listing.commit) != repository.revision.as_ref() {
        bail!("`{address}`: the hub answers with another commit, {}", listing.commit);
    }
    let names = match (&repository.file, extent) {
        (Some(file), Extent::File) => vec![file.clone()],
        (None, Extent::File) => bail!("`{address}` is a repository: name a file in it, `…@{}/FILE`", listing.commit),
        (Some(_), _) => bail!("`{address}` is a file: a model is a whole repository"),
        (None, _) => listing.model(extent).with_context(|| format!("`{address}`"))?,
    };
    let wanted = |name: String| {
        let expected = listing.files.get(&name).cloned().with_context(|| {
            let near = crate::diagnostic::closest(&name, listing.files.keys().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("`{address}`: there is no `{name}`{near}")
        })?;
        let prefix = if repository.is_data { "datasets/" } else { "" };
        let url = resolve(&fetcher.settings.endpoint, &format!("{prefix}{}", repository.name), &listing.commit, &name)?;
        // A part of a model has a folder of its own; a file alone has not.
        let name = if extent == Extent::File { name.rsplit('/').next().unwrap_or(&name).to_string() } else { name };
        Ok(Wanted { name, url, expected })
    };
    names.into_iter().map(wanted).collect()
}

/// Where a file is.
fn resolve(endpoint: &Url, repository: &str, commit: &str, file: &str) -> anyhow::Result<Url> {
    let mut url = endpoint.join(&format!("{repository}/resolve/{commit}/"))?;
    let mut parts = url.path_segments_mut().map_err(|()| anyhow::anyhow!("`{endpoint}` is no address of a hub"))?;
    parts.pop_if_empty().extend(file.split('/'));
    drop(parts);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let files = names.iter().map(|name| (name.to_string(), Expected::default())).collect();
        Listing { commit: "0".repeat(40), files }
    }

    #[test]
    fn of_several_kinds_of_weights_one_is_fetched() {
        let model = |names: &[&str]| listing(names).model(Extent::Model).map_err(|error| error.to_string());
        let both =
            ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"];
        assert_eq!(model(&both).unwrap(), ["config.json", "model.safetensors"]);
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/model-1.safetensors",
            "pytorch_model-00001-of-00001.bin",
            "tokenizer.json",
        ];
        let expected = ["config.json", "tokenizer.json", shards[3], shards[1], shards[2]];
        assert_eq!(model(&shards).unwrap(), expected);
        assert_eq!(model(&["config.json", "pytorch_model.bin"]).unwrap(), ["config.json", "pytorch_model.bin"]);
        let adapter = ["adapter_config.json", "adapter_model.safetensors"];
        assert_eq!(model(&adapter).unwrap(), adapter);
        assert!(model(&["a.gguf"]).unwrap_err().contains("no `config.json`"));
        assert!(model(&["config.json", "a.gguf"]).unwrap_err().contains("no weights"));
        let sentences =
            ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "onnx/model.onnx"];
        assert_eq!(
            model(&sentences).unwrap(),
            ["config.json", "1_Pooling/config.json", "modules.json", "model.safetensors"]
        );
        assert_eq!(listing(&shards).model(Extent::Tokenizer).unwrap(), ["tokenizer.json"]);
    }

    #[test]
    fn what_a_hub_says_of_files_is_read() {
        let text = r#"{"sha": "0123456789abcdef0123456789abcdef01234567", "private": false, "siblings": [
            {"rfilename": "config.json", "size": 5, "blobId": "aa"},
            {"rfilename": "model.safetensors", "size": 7, "blobId": "bb", "lfs": {"sha256": "cc", "size": 7, "pointerSize": 1}}]}"#;
        let listing = Listing::parse(text.as_bytes()).unwrap();
        let (small, large) = (&listing.files["config.json"], &listing.files["model.safetensors"]);
        assert_eq!((small.size, small.git.as_deref(), small.sha256.as_deref()), (Some(5), Some("aa"), None));
        assert_eq!((large.size, large.git.as_deref(), large.sha256.as_deref()), (Some(7), None, Some("cc")));
        for text in ["<html>", "{}", r#"{"sha": "main"}"#] {
            assert!(Listing::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn odd_names_stay_in_their_folder() {
        let url = resolve(&"http://h/hub/".parse().unwrap(), "a/b", "c0", "x y/ü?#.jsonl").unwrap();
        assert_eq!(url.as_str(), "http://h/hub/a/b/resolve/c0/x%20y/%C3%BC%3F%23.jsonl");
    }
}
