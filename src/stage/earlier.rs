//! What earlier work left: where an unfinished attempt stood, answers to single rows, and replies that were paid for.
//!
//! The first two are a help, never a duty: what cannot be read or written costs time, not the stage. The ledger is kept by
//! the room `api`.

use crate::appended::{self, line, read};
use crate::key::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where it lies. A forced run and an audit have but the ledger: they do everything again that costs no money.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// A folder for where the work stands, of this key alone; it goes when the work is done. It may not exist yet.
    pub unfinished: Option<PathBuf>,
    /// A folder for answers to single rows, of all work that differs in its rows only. It may not exist yet.
    pub rows: Option<PathBuf>,
    /// The folder of the replies that were paid for. It may not exist yet.
    pub ledger: Option<PathBuf>,
}

impl Earlier {
    /// The answers to single rows.
    pub fn answers(&self) -> Answers {
        Answers::open(self.rows.as_deref())
    }
}

/// Answers to single rows: those of earlier work, and those that this work adds one by one, so that a killed run goes on
/// where it was and one changed row costs one row.
///
/// The form of the files is that of [`crate::appended`].
#[derive(Debug, Default)]
pub struct Answers {
    known: BTreeMap<Digest, Value>,
    folder: Option<PathBuf>,
    file: Option<File>,
}

/// More files than this are made one.
const MOST_FILES: usize = 32;

impl Answers {
    fn open(folder: Option<&Path>) -> Self {
        let Some(folder) = folder else { return Self::default() };
        let files = appended::files(folder);
        let mut known = BTreeMap::new();
        for path in &files {
            let text = fs::read(path).unwrap_or_default();
            known.extend(text.split(|byte| *byte == b'\n').filter_map(read));
        }
        let mut answers = Self { known, folder: Some(folder.to_path_buf()), file: None };
        if files.len() > MOST_FILES {
            answers.gather(&files);
        }
        answers
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// The answer to a row of this key. One of another form than is asked for is none.
    pub fn get<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        T::deserialize(self.known.get(key)?).ok()
    }

    /// Keeps the answer to a row, at once.
    pub fn keep(&mut self, key: Digest, answer: &impl Serialize) {
        let Ok(answer) = serde_json::to_value(answer) else { return };
        if self.file.is_none() {
            self.file = self.folder.as_deref().and_then(create);
        }
        if let Some(file) = &mut self.file
            && file.write_all(line(&key, &answer).as_bytes()).is_err()
        {
            (self.file, self.folder) = (None, None);
        }
        self.known.insert(key, answer);
    }

    /// The answers to rows of these keys: those that are there, and what `make` makes of the rest, each once. It gets the
    /// places of the rest, and says each answer, by its place among them, as soon as it has it.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn complete<T: Clone + Serialize + DeserializeOwned>(
        &mut self,
        keys: &[Digest],
        make: impl FnOnce(&[usize], &mut dyn FnMut(usize, &T)) -> anyhow::Result<Vec<T>>,
    ) -> anyhow::Result<Vec<T>> {
        let mut found: BTreeMap<Digest, Option<T>> = BTreeMap::new();
        let mut open = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            found.entry(*key).or_insert_with(|| {
                let answer = self.get(key);
                if answer.is_none() {
                    open.push(place);
                }
                answer
            });
        }
        if !open.is_empty() {
            let made = make(&open, &mut |number, answer| self.keep(keys[open[number]], answer))?;
            for (place, answer) in open.iter().zip(made) {
                found.insert(keys[*place], Some(answer));
            }
        }
        Ok(keys.iter().filter_map(|key| found[key].clone()).collect())
    }

    /// Puts all answers into one file. What another process adds meanwhile is in a file that stays.
    fn gather(&mut self, files: &[PathBuf]) {
        let Some(mut file) = self.folder.as_deref().and_then(create) else { return };
        let lines: String = self.known.iter().map(|(key, answer)| line(key, answer)).collect();
        if file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).is_ok() {
            // A file that another process still writes to keeps what it gets from now on only on paper; its rows are
            // answered again, no more.
            files.iter().for_each(|path| drop(fs::remove_file(path)));
        }
        self.file = Some(file);
    }
}

fn create(folder: &Path) -> Option<File> {
    appended::create(folder, "rows-").ok().map(|(file, _)| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn an_answer_is_there_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = Earlier { rows: Some(folder.path().join("rows")), ..Earlier::default() };
        let mut answers = earlier.answers();
        assert_eq!((answers.count(), answers.get::<String>(&key(1))), (0, None));
        answers.keep(key(1), &"grün\n");
        answers.keep(key(2), &0.1f64);
        // Before the first process has ended.
        let mut other = earlier.answers();
        assert_eq!(other.get::<String>(&key(1)).unwrap(), "grün\n");
        assert_eq!(other.get::<f64>(&key(2)), Some(0.1));
        assert_eq!(other.get::<u32>(&key(1)), None, "of another form");
        other.keep(key(3), &[1, 2]);
        drop((answers, other));
        assert_eq!(earlier.answers().count(), 3);
        assert_eq!(files(&folder.path().join("rows")).len(), 2);
    }

    #[test]
    fn cut_and_damaged_lines_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = Earlier { rows: Some(folder.path().to_path_buf()), ..Earlier::default() };
        let mut answers = earlier.answers();
        (1..=3).for_each(|number| answers.keep(key(number), &"right"));
        let path = &files(folder.path())[0];
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, &text[..text.len() - 3]).unwrap();
        assert_eq!(earlier.answers().count(), 2);
        fs::write(path, text.replacen("right", "wrong", 1)).unwrap();
        let answers = earlier.answers();
        assert_eq!((answers.count(), answers.get::<String>(&key(1))), (2, None));
        fs::write(path, [&[0xFF, b'\n'], text.as_bytes()].concat()).unwrap();
        assert_eq!(earlier.answers().count(), 3);
    }

    #[test]
    fn many_files_become_one() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = Earlier { rows: Some(folder.path().to_path_buf()), ..Earlier::default() };
        for number in 0..u32::try_from(MOST_FILES).unwrap() + 1 {
            earlier.answers().keep(key(number), &number);
        }
        assert_eq!(earlier.answers().count(), MOST_FILES + 1);
        assert_eq!(files(folder.path()).len(), 1);
        assert_eq!(earlier.answers().get::<u32>(&key(7)), Some(7));
    }

    #[test]
    fn only_what_is_not_known_is_made_and_each_of_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = Earlier { rows: Some(folder.path().to_path_buf()), ..Earlier::default() };
        earlier.answers().keep(key(2), &20);
        let keys = [3, 2, 1, 3].map(key);
        let answered = earlier.answers().complete(&keys, |open, said| {
            assert_eq!(open, [0, 2]);
            said(1, &10);
            Ok(vec![30, 10])
        });
        assert_eq!(answered.unwrap(), [30, 20, 10, 30]);
        // What was said stays, even if the rest fails.
        let failed = earlier.answers().complete(&keys, |open, _: &mut dyn FnMut(usize, &i32)| {
            assert_eq!(open, [0]);
            anyhow::bail!("no")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    #[test]
    fn without_a_folder_nothing_is_kept_but_in_memory() {
        let mut answers = Earlier::default().answers();
        answers.keep(key(1), &"a");
        assert_eq!(answers.get::<String>(&key(1)).unwrap(), "a");
    }
}
