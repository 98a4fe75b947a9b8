//! What a record from elsewhere must be like before it is believed. Its objects prove themselves by their digests; here
//! it is seen to that it speaks of the right key, promises what the stage promises and names no path outside its folder.

use super::super::action::digest_of;
use crate::key::Digest;
use crate::record::{Output, Record};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Reads a record of `key`, whose outputs must have the names and paths `promised`; an imported one may have fewer. `Err`
/// says what is wrong with it.
pub(super) fn record(bytes: &[u8], key: &Digest, promised: &[(&str, &str)]) -> Result<Record, String> {
    let record = Record::parse(bytes)?;
    if record.key != *key {
        return Err(format!("it is of another key, {}", record.key.short()));
    }
    let found: Vec<(&str, &str)> =
        record.outputs.iter().map(|output| (output.name.as_str(), output.path.as_str())).collect();
    let is_kept = match record.run.imported {
        None => found == promised,
        // Of a result that was imported, some outputs may be all that there was.
        Some(_) => is_part(&found, promised),
    };
    if !is_kept {
        return Err("it has other outputs than its kind of stage makes".to_string());
    }
    record.outputs.iter().try_for_each(output)?;
    let mut digests: BTreeMap<&str, Digest> = BTreeMap::new();
    for file in record.outputs.iter().flat_map(|output| &output.files) {
        if *digests.entry(&file.path).or_insert(file.digest) != file.digest {
            return Err(format!("it has two files `{}`", file.path));
        }
    }
    Ok(record)
}

/// Whether some of `all` are left, in their order.
fn is_part<T: PartialEq>(some: &[T], all: &[T]) -> bool {
    let mut all = all.iter();
    !some.is_empty() && some.iter().all(|one| all.any(|other| other == one))
}

fn output(output: &Output) -> Result<(), String> {
    for file in &output.files {
        let is_plain = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        let is_clean = is_plain && !file.path.ends_with('/') && !file.path.contains("//") && !file.path.contains("/./");
        let is_inside = match output.is_folder() {
            true => file.path.len() > output.path.len() && file.path.starts_with(&output.path),
            false => file.path == output.path,
        };
        if !is_clean || !is_inside {
            return Err(format!(
                "its file `{}` does not lie in its output `{}`",
                file.path.escape_debug(),
                output.path
            ));
        }
    }
    if !output.is_folder() && output.files.len() != 1 {
        return Err(format!("its output `{}` is not one file", output.name));
    }
    match digest_of(&output.path, &output.files) == output.digest {
        true => Ok(()),
        false => Err(format!("the digest of its output `{}` is not that of its files", output.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{committed, document, store};
    use super::*;
    use crate::record::{FileEntry, Imported};

    const PROMISED: &[(&str, &str)] = &[("model", "model/"), ("metrics", "metrics.jsonl")];

    /// What is said of a good record that was changed so; its digests are made right again unless that is the change.
    fn verdict(change: impl FnOnce(&mut Record), honest: bool) -> String {
        let (_folder, store) = store();
        let mut made = committed(&store, "weights");
        change(&mut made);
        if honest {
            made.outputs.iter_mut().for_each(|output| output.digest = digest_of(&output.path, &output.files));
        }
        let bytes = serde_json::to_vec(&made).unwrap();
        record(&bytes, &document(1).key(), PROMISED).err().unwrap_or_default()
    }

    #[test]
    fn a_good_record_is_believed_and_a_damaged_one_is_not() {
        assert_eq!(verdict(|_| {}, true), "");
        assert!(record(b"{\"format\":1", &document(1).key(), PROMISED).is_err());
        assert!(verdict(|made| made.format = 9, true).contains("format 9"));
        assert!(verdict(|made| made.key = document(2).key(), true).contains("another key"));
        assert!(
            verdict(|made| made.outputs[0].digest = Digest::of(b""), false).contains("digest of its output `model`")
        );
        assert!(verdict(|made| made.outputs[1].digest = Digest::of(b""), false).contains("`metrics`"));
        assert!(verdict(|made| drop(made.outputs.pop()), true).contains("other outputs"));
        assert!(verdict(|made| made.outputs[0].path = "elsewhere/".into(), true).contains("other outputs"));
    }

    #[test]
    fn an_imported_record_may_have_a_part_of_the_outputs() {
        let imported = |change: fn(&mut Vec<Output>)| {
            let change = |made: &mut Record| {
                made.run.imported = Some(Imported { from: "model".to_string(), note: None });
                change(&mut made.outputs);
            };
            verdict(change, true)
        };
        assert_eq!(imported(|_| {}), "");
        assert_eq!(imported(|outputs| outputs.truncate(1)), "");
        assert_eq!(imported(|outputs| drop(outputs.remove(0))), "");
        assert!(imported(Vec::clear).contains("other outputs"));
        assert!(imported(|outputs| outputs.reverse()).contains("other outputs"));
        assert!(imported(|outputs| outputs[1] = outputs[0].clone()).contains("other outputs"));
        assert!(imported(|outputs| outputs[0].name = "else".to_string()).contains("other outputs"));
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["model/../../x", "/etc/passwd", "model/", "model//x", "model/./x", "other/x", "", "model/.."] {
            let change = |made: &mut Record| made.outputs[0].files[0].path = path.into();
            assert!(verdict(change, true).contains("does not lie in its output"), "{path}");
        }
        let change = |made: &mut Record| made.outputs[1].files[0].path = "other.jsonl".into();
        assert!(verdict(change, true).contains("does not lie in its output"));
    }

    #[test]
    fn a_file_has_one_content() {
        let again = |made: &mut Record| {
            let file = made.outputs[0].files[0].clone();
            made.outputs[0].files.push(FileEntry { digest: Digest::of(b"other"), ..file });
        };
        assert!(verdict(again, true).contains("two files `model/config.json`"));
        let none = |made: &mut Record| made.outputs[1].files.clear();
        assert!(verdict(none, true).contains("not one file"));
    }
}
