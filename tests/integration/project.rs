//! A throw-away project: a folder with data and a manifest, and the program run in it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub struct Project {
    dir: TempDir,
}

#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Answers of two systems to the same questions: no training is needed to score them.
pub const MANIFEST: &str = r#"titer = 1
name = "answers"

[axes]
n = [2, 3, 5]

[mix.rows]
sources = [
  { path = "data/answers.jsonl", take = "{n}" },
  { path = "data/more.jsonl" },
]

[score.quality]
predictions = "mix.rows"

[score.quality.scorers]
em = "exact_match"
rouge = "rouge"

[aggregate.table]
from = "score.quality"
by = ["n"]
"#;

impl Project {
    /// The manifest [`MANIFEST`] with its data.
    pub fn answers() -> Self {
        let project = Self::empty();
        let row = |i: usize, right: bool| {
            let answer = if right { "yes" } else { "perhaps" };
            format!("{{\"instruction\":\"Is {i} a number?\",\"output\":\"yes\",\"prediction\":\"{answer}\"}}\n")
        };
        project.write("data/answers.jsonl", &(0..6).map(|i| row(i, i % 2 == 0)).collect::<String>());
        project.write("data/more.jsonl", &(6..8).map(|i| row(i, true)).collect::<String>());
        project.write("pipelines/p.toml", MANIFEST);
        project
    }

    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Replaces text in a file; the text must be there.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no `{from}`");
        self.write(name, &text.replace(from, to));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_titer"));
        command.args(args).current_dir(self.dir.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    pub fn titer(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap().into()
    }

    /// Runs the manifest, which must succeed; returns the instances that ran, sorted.
    pub fn run(&self) -> Vec<String> {
        self.run_with(&[])
    }

    pub fn run_with(&self, more: &[&str]) -> Vec<String> {
        let args = [&["run", "pipelines/p.toml", "--json"], more].concat();
        let output = self.titer(&args);
        assert_eq!(output.code, 0, "{output:?}");
        ran(&output.out)
    }

    /// What a run must refuse or fail with: its exit code, and texts that the person must see.
    pub fn refuses(&self, args: &[&str], code: i32, texts: &[&str]) {
        let output = self.titer(args);
        let all = format!("{}{}", output.out, output.err);
        assert_eq!(output.code, code, "{all}");
        for text in texts {
            assert!(all.contains(text), "`{text}` is not in:\n{all}");
        }
        assert!(!all.contains("panicked") && !all.contains("a bug in titer"), "{all}");
    }
}

/// The instances of `run --json` events that ran, those whose key had been made before included.
pub fn ran(lines: &str) -> Vec<String> {
    let mut names: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "ran" || event["event"] == "observed")
        .map(|event| event["instance"].as_str().unwrap().to_string())
        .collect();
    names.sort();
    names
}

/// The text of a command that must succeed.
pub fn text(project: &Project, args: &[&str]) -> String {
    let output = project.titer(args);
    assert_eq!(output.code, 0, "{output:?}");
    output.out
}

/// The answer of a command that must succeed.
pub fn json(project: &Project, args: &[&str]) -> Value {
    answer(project, args, 0)
}

/// The answer of a command that must end with this exit code.
pub fn answer(project: &Project, args: &[&str], code: i32) -> Value {
    let output = project.titer(&[args, &["--json"]].concat());
    assert_eq!(output.code, code, "{output:?}");
    serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {}", output.out))
}

/// Waits for what another process does, for twenty seconds at most.
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// The results as they are shown, without what titer remembers of them.
pub fn results(project: &Project) -> Vec<(String, Vec<u8>)> {
    tree(&project.path("out")).into_iter().filter(|(name, _)| !name.ends_with(".titer")).collect()
}

/// All files below a folder with their bytes, by relative path; links are followed.
pub fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                files.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
