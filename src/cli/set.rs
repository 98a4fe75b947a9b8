//! `titer set`: settings of a manifest changed from the command line, the rest of its text as it was.

use super::Exit;
use super::args::Changes;
use super::out::{self, BAD, BOLD, CALM, GOOD, styled};
use super::project::{Failure, read_text};
use crate::diagnostic::Sources;
use crate::manifest::edit::{self, Changed, Edit, Edited};
use anyhow::{Context as _, ensure};
use serde_json::json;
use similar::{ChangeTag, TextDiff};
use std::io::Write as _;
use std::path::Path;

/// Lines shown around a change.
const AROUND: usize = 1;

pub(super) fn set(path: &Path, changes: &Changes, as_json: bool) -> Result<Exit, Failure> {
    let name = path.display().to_string();
    let set = changes.set.iter().cloned().map(Edit::Set);
    let edits: Vec<Edit> = set.chain(changes.unset.iter().cloned().map(Edit::Unset)).collect();
    if edits.is_empty() {
        return Err(anyhow::anyhow!("nothing is to be changed: give `KEY=VALUE` or `--unset KEY`").into());
    }
    let mut sources = Sources::default();
    let edited =
        edit::edit(&name, &read_text, &edits, &mut sources).map_err(|problems| Failure::Problems(problems, sources))?;
    let is_changed = edited.old != edited.new;
    let is_written = is_changed && !changes.dry_run;
    if is_written {
        write(path, &edited)?;
    }
    if as_json {
        let lines = lines(&edited).into_iter().map(|line| line.0).collect::<Vec<_>>();
        out::json(&json!({
            "manifest": name, "written": is_written, "changes": edited.changes, "diff": lines,
            "mistakes": edited.mistakes,
        }));
        return Ok(Exit::Done);
    }
    for change in &edited.changes {
        describe(change);
    }
    if changes.dry_run {
        for (line, tag) in lines(&edited) {
            match tag {
                ChangeTag::Delete => out::say(styled(BAD, line)),
                ChangeTag::Insert => out::say(styled(GOOD, line)),
                ChangeTag::Equal => out::say(styled(CALM, line)),
            }
        }
    }
    out::say(match (is_changed, is_written) {
        (false, _) => format!("{name} is as it was"),
        (true, true) => format!("wrote {name}"),
        (true, false) => format!("{name} was not written (--dry-run)"),
    });
    if edited.mistakes > 0 {
        let warning = styled(BOLD, "warning:");
        let mistakes = out::count(edited.mistakes, "mistake");
        out::complain(format!("{warning} it had {mistakes} before: titer check {name}"));
    }
    Ok(Exit::Done)
}

fn describe(change: &Changed) {
    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "not set".to_string(), short);
    let base = match (&change.overrides, &change.copied) {
        (Some(base), Some(list)) => format!("  (`{list}` is copied from {base}: a list is replaced as a whole)"),
        (Some(base), None) => format!("  (set in {base}, overridden here)"),
        _ => String::new(),
    };
    let (old, new) = (shown(&change.old), shown(&change.new));
    out::say(format!("{}: {old} → {new}{}", styled(BOLD, &change.key), styled(CALM, base)));
}

/// A value on one line that is not too long.
fn short(value: &str) -> String {
    const LONGEST: usize = 72;
    let line = value.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() {
        0..=LONGEST => line,
        _ => line.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

/// The changed lines and those around them, as a diff shows them.
fn lines(edited: &Edited) -> Vec<(String, ChangeTag)> {
    let diff = TextDiff::from_lines(&edited.old, &edited.new);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(AROUND) {
        let Some(first) = group.first() else { continue };
        lines.push((format!("@@ line {} @@", first.new_range().start + 1), ChangeTag::Equal));
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let text = change.value().trim_end_matches(['\n', '\r']);
            lines.push((format!("{}{text}", change.tag()), change.tag()));
        }
    }
    lines
}

/// Puts the new text in the file's place in one step: who reads it meanwhile sees the old text or the new one. A link
/// stays one; the file that it leads to is replaced.
fn write(path: &Path, edited: &Edited) -> anyhow::Result<()> {
    let file = std::fs::canonicalize(path).with_context(|| format!("finding `{}`", path.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let what = || format!("writing `{}`", path.display());
    let permissions = std::fs::metadata(&file).with_context(what)?.permissions();
    ensure!(!permissions.readonly(), "`{}` is read-only", path.display());
    let mut new = tempfile::Builder::new().prefix(".titer-").tempfile_in(folder).with_context(what)?;
    new.write_all(edited.new.as_bytes()).with_context(what)?;
    new.as_file().set_permissions(permissions).with_context(what)?;
    new.as_file().sync_all().with_context(what)?;
    let now = std::fs::read(&file).with_context(what)?;
    ensure!(now == edited.old.as_bytes(), "`{}` was changed by somebody else meanwhile; try again", path.display());
    new.persist(&file).map_err(|error| error.error).with_context(what)?;
    Ok(())
}
