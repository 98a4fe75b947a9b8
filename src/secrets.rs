//! Secrets in what jobs and servers say and write: in all forms in which a program is likely to write one down.
//!
//! A secret is the value of a variable of titer's own environment that a stage names (`{env:NAME}`). It goes to the process
//! that works on the stage, and to nothing that is kept or shown.

use anyhow::Context as _;
use memchr::memmem::Finder;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// Names of secrets in titer's own environment, and their values.
pub type Secrets = BTreeMap<String, String>;

/// A line of a secret (a key in PEM form has many) that is shorter says nothing, and would be found everywhere.
const SHORTEST_LINE: usize = 8;

/// Finds secrets.
#[derive(Clone, Default)]
pub struct Mask {
    /// A form, and the name of the secret. Longer forms first, so that none leaves a part of another behind.
    forms: Vec<(String, String)>,
}

impl Mask {
    /// Finds these.
    pub fn new(secrets: &Secrets) -> Self {
        let mut forms: Vec<(String, String)> = Vec::new();
        for (name, value) in secrets {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
            for text in lines.chain([value.as_str()]).filter(|text| !text.is_empty()) {
                for form in [text.to_string(), json(text), ascii_json(text), json(text).replace('/', "\\/")] {
                    if !forms.iter().any(|(known, _)| *known == form) {
                        forms.push((form, name.clone()));
                    }
                }
            }
        }
        forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        Self { forms }
    }

    /// Finds keys of APIs. A word such as `EMPTY` or `none`, which is given to servers that want any key, is none: it stands
    /// in many an honest answer.
    pub fn of_keys(secrets: &Secrets) -> Self {
        let keys = secrets.iter().filter(|(_, value)| value.len() >= SHORTEST_LINE);
        Self::new(&keys.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Bytes of the longest form.
    pub(crate) fn longest(&self) -> usize {
        self.forms.first().map_or(0, |(form, _)| form.len())
    }

    /// The text with names in the place of secrets.
    pub fn hide(&self, text: String) -> String {
        self.forms
            .iter()
            .filter(|(form, _)| text.contains(form.as_str()))
            .fold(text.clone(), |text, (form, name)| text.replace(form.as_str(), &format!("<{name}>")))
    }

    /// Looks for secrets in what a command wrote, names of files included: they would be kept for ever. Returns what to
    /// say if there is one.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn find_in(&self, output: &Path) -> anyhow::Result<Option<String>> {
        let mut folders = vec![output.to_path_buf()];
        while let Some(folder) = folders.pop().filter(|_| !self.is_empty()) {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("reading `{}`", folder.display()))? {
                let (path, kind) = {
                    let entry = entry?;
                    (entry.path(), entry.file_type()?)
                };
                let name = path.strip_prefix(output).unwrap_or(&path).display().to_string();
                if let Some(secret) = self.held_in(&name) {
                    return Ok(Some(format!("the name of a file holds the secret `{secret}`: it is not kept")));
                }
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file()
                    && let Some(secret) = self.held_by(&path)?
                {
                    return Ok(Some(format!(
                        "`{name}` holds the secret `{secret}`: it is not kept; do not write it there"
                    )));
                }
            }
        }
        Ok(None)
    }

    /// The name of a secret that is in the text.
    pub fn held_in(&self, text: &str) -> Option<&str> {
        self.forms.iter().find(|(form, _)| text.contains(form.as_str())).map(|(_, name)| name.as_str())
    }

    /// The name of a secret that is in the file.
    fn held_by(&self, path: &Path) -> anyhow::Result<Option<&str>> {
        let finders: Vec<(Finder<'_>, &str)> =
            self.forms.iter().map(|(form, name)| (Finder::new(form), name.as_str())).collect();
        let mut file = std::fs::File::open(path).with_context(|| format!("reading `{}`", path.display()))?;
        let (mut window, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                return Ok(None);
            }
            window.extend_from_slice(&chunk[..read]);
            if let Some((_, name)) = finders.iter().find(|(finder, _)| finder.find(&window).is_some()) {
                return Ok(Some(name));
            }
            // One that lies across two chunks.
            window.drain(..window.len().saturating_sub(self.longest()));
        }
    }
}

/// Names only.
impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.forms.iter().map(|(_, name)| name)).finish()
    }
}

/// As JSON writes a text, without the quotes.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_string()
}

/// The same with everything that is not ASCII as `\uXXXX`, as Python writes it.
fn ascii_json(text: &str) -> String {
    let mut units = [0; 2];
    let escaped = |c: char| match c.is_ascii() {
        true => c.to_string(),
        false => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    json(text).chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(value: &str) -> Mask {
        Mask::new(&[("PASSWORD".to_string(), value.to_string())].into())
    }

    #[test]
    fn a_secret_is_found_across_the_border_of_two_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = vec![b'x'; (1 << 20) - 3];
        text.extend_from_slice(b"hunter2 and more");
        std::fs::create_dir(folder.path().join("model")).unwrap();
        std::fs::write(folder.path().join("model/notes.txt"), &text).unwrap();
        let message = mask("hunter2").find_in(folder.path()).unwrap().unwrap();
        assert!(message.contains("`model/notes.txt` holds the secret `PASSWORD`") && !message.contains("hunter2"));
        assert_eq!(mask("hunter3").find_in(folder.path()).unwrap(), None);
        assert_eq!(mask("").find_in(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_word_for_want_of_a_key_is_no_secret() {
        let keys = |value: &str| Mask::of_keys(&[("KEY".to_string(), value.to_string())].into());
        assert!(keys("EMPTY").is_empty() && keys("EMPTY").held_in("EMPTY").is_none());
        assert_eq!(keys("sk-12345").held_in("a sk-12345 b"), Some("KEY"));
    }

    #[test]
    fn the_name_of_a_file_is_looked_at_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run-hunter2")).unwrap();
        let message = mask("hunter2").find_in(folder.path()).unwrap().unwrap();
        assert!(message.contains("`PASSWORD`") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_secret_is_hidden_however_a_program_writes_it() {
        let value = "pa\"ss/wörd\u{1f511}";
        for said in [
            value.to_string(),
            serde_json::json!({ "key": value }).to_string(),
            // Python's `json.dumps` and PHP's.
            r#"{"key": "pa\"ss/w\u00f6rd\ud83d\udd11"}"#.to_string(),
            r#"{"key": "pa\"ss\/wörd🔑"}"#.to_string(),
        ] {
            let hidden = mask(value).hide(said.clone());
            assert!(hidden.contains("<PASSWORD>") && !hidden.contains("ss"), "{said} → {hidden}");
        }
        let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n";
        let said: String = pem.lines().map(|line| mask(pem).hide(format!("> {line}\n"))).collect();
        assert!(!said.contains("MII") && !said.contains("kqh"), "{said}");
    }
}
