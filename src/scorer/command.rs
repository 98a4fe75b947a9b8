//! A scorer of one's own: a program that is asked about one row after the other.
//!
//! # The contract
//!
//! The command is a list of arguments, never a shell's line. It is started once, in the project's root, and gets a JSON
//! object on one line of its standard input for each row: `{"prediction": "…", "references": ["…"], "row": {…}}`. It
//! answers each with a JSON object on one line of its standard output, before it is asked again: a number or null for every
//! one of `metrics`, and nothing else: `{"a": 0.5, "b": null}`. So it must not hold its answers back (Python does not here:
//! `PYTHONUNBUFFERED` is set). When its input ends, it ends with exit code 0. What it says on its standard error is shown if
//! it fails.
//!
//! An argument that names a file of the project is an input of the stage, so that another version of the program scores
//! anew; whatever else it reads is its own affair.

use super::text::shown;
use super::{Answer, Definition, References, Scored, Scorer, Work};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{Fields, Group as _};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "command",
    version: 1,
    summary: "what a program of your own says of each row: JSON lines in, JSON lines out",
    source: "that program",
    metrics: &[],
    pooled: &[],
    references: References::Any,
    read,
    settings: super::settings::<CommandParams>,
    work: Work::Program(build),
};

crate::settings! {
    /// The program, and what it says.
    pub struct CommandParams {
        /// The program and its arguments: `["python", "metric.py"]`. It reads an object of `prediction`, `references` and
        /// `row` on each line, and answers each by a line with a number or null for every metric.
        command: Vec<String>,
        /// The names of its values.
        metrics: Vec<String>,
    }
}

fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    let span = fields.span();
    let params = CommandParams::read(fields, problems)?;
    match check(&params) {
        Ok(()) => serde_json::to_value(params).ok(),
        Err(error) => {
            let problem = Diagnostic::at(span, error.to_string());
            problems.push(problem.hint("write `command = [\"program\", \"argument\"]` and `metrics = [\"name\"]`"));
            None
        }
    }
}

fn check(params: &CommandParams) -> anyhow::Result<()> {
    let program = params.command.first();
    ensure!(program.is_some_and(|program| !program.is_empty()), "`command` names no program");
    ensure!(!params.command.iter().any(|word| word.contains('\0')), "`command` holds a NUL byte");
    ensure!(!params.metrics.is_empty(), "`metrics` is empty");
    for (number, name) in params.metrics.iter().enumerate() {
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        ensure!(is_name, "`{name}` is no name of a metric: letters, digits, `_` and `-`");
        ensure!(!params.metrics[..number].contains(name), "the metric `{name}` is listed twice");
    }
    Ok(())
}

fn build(params: Value, root: &Path) -> anyhow::Result<Box<dyn Scorer>> {
    let params: CommandParams = serde_json::from_value(params)?;
    check(&params)?;
    Ok(Box::new(ByCommand { params, root: root.to_path_buf(), program: None }))
}

/// The scorer. Its program is started for the first row, and ended with it.
#[derive(Debug)]
pub struct ByCommand {
    params: CommandParams,
    root: PathBuf,
    program: Option<Program>,
}

impl Scorer for ByCommand {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let question = json!({ "prediction": answer.prediction, "references": answer.references, "row": answer.row });
        if self.program.is_none() {
            self.program = Some(Program::start(&self.params.command, &self.root)?);
        }
        let Some(program) = &mut self.program else { bail!("the program is not there") };
        let said = program.ask(&question)?;
        let values = values(&said, &self.params.metrics)
            .with_context(|| format!("`{}` said {}", self.params.command[0], shown(&said, SHOWN)))?;
        Ok(Scored { values, counts: Vec::new() })
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.program.take().map_or(Ok(()), Program::finish)
    }
}

/// The values of the metrics in an answer.
fn values(said: &str, metrics: &[String]) -> anyhow::Result<Vec<Option<f64>>> {
    let hint = match said.contains("NaN") || said.contains("Infinity") {
        true => ": JSON has no NaN and no infinity; `null` says that there is no value",
        false => "",
    };
    let answer: Map<String, Value> = match serde_json::from_str(said) {
        Ok(Value::Object(answer)) => answer,
        Ok(_) => bail!("an answer is an object with a number or null per metric"),
        Err(error) => bail!("that is no JSON ({error}){hint}"),
    };
    if let Some(name) = answer.keys().find(|name| !metrics.contains(name)) {
        bail!("`{name}` is none of `metrics`");
    }
    let value = |name: &String| match answer.get(name) {
        None => bail!("the metric `{name}` is missing"),
        Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|number| number.is_finite());
            Ok(Some(number.with_context(|| format!("`{name}` is {value}: expected a number or null"))?))
        }
    };
    metrics.iter().map(value).collect()
}

/// The program while it runs. It is in the process group of this process, and ends with it.
#[derive(Debug)]
struct Program {
    name: String,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    asked: u64,
    /// The end of what it says on its standard error, and a word when it says no more.
    last_words: Arc<Mutex<VecDeque<String>>>,
    silence: Receiver<()>,
}

/// Bytes of an answer, at most.
const LONGEST_ANSWER: u64 = 1 << 20;
/// Characters of an answer that a message shows.
const SHOWN: usize = 200;
/// Lines of its standard error that a message shows, and bytes of such a line.
const TAIL: usize = 10;
const LONGEST_LINE: u64 = 1000;
/// How long it may take to end when it has stopped answering, and how long its last words are waited for then.
const PATIENCE: Duration = Duration::from_secs(2);

impl Program {
    fn start(words: &[String], root: &Path) -> anyhow::Result<Self> {
        let (name, root) = (words[0].clone(), if root.as_os_str().is_empty() { Path::new(".") } else { root });
        // A path is relative to the root, not to where titer was started.
        let program = match name.contains('/') {
            true => std::path::absolute(root.join(&name)).with_context(|| format!("finding `{name}`"))?,
            false => PathBuf::from(&name),
        };
        let mut command = Command::new(program);
        command.args(&words[1..]).current_dir(root).env("PYTHONUNBUFFERED", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the program has no standard output")?);
        let words = BufReader::new(child.stderr.take().context("the program has no standard error")?);
        let (last_words, (silent, silence)) = (Arc::<Mutex<VecDeque<String>>>::default(), channel());
        let heard = Arc::clone(&last_words);
        std::thread::spawn(move || {
            listen(words, &heard);
            let _ = silent.send(());
        });
        Ok(Self { name, child, questions, answers, asked: 0, last_words, silence })
    }

    /// Asks about a row and gives the line that is the answer.
    fn ask(&mut self, question: &Value) -> anyhow::Result<String> {
        // An answer that nobody asked for would be taken for that of the next row.
        if !self.answers.buffer().is_empty() {
            bail!("`{}` said more than one line of row {}", self.name, self.asked);
        }
        self.asked += 1;
        let line = format!("{question}\n");
        let sent = self.questions.as_mut().map(|questions| questions.write_all(line.as_bytes()));
        let mut answer = Vec::new();
        if matches!(sent, Some(Ok(()))) {
            let answers = (&mut self.answers).take(LONGEST_ANSWER).read_until(b'\n', &mut answer);
            answers.with_context(|| format!("listening to `{}`", self.name))?;
        }
        if answer.pop_if(|last| *last == b'\n').is_none() {
            if answer.len() as u64 == LONGEST_ANSWER {
                bail!("`{}` said a line of more than {LONGEST_ANSWER} bytes", self.name);
            }
            return Err(self.early_end());
        }
        String::from_utf8(answer).with_context(|| format!("`{}` said what is no UTF-8", self.name))
    }

    /// Why it does not answer any more.
    fn early_end(&mut self) -> anyhow::Error {
        self.questions = None;
        let (asked, how) = (self.asked, self.end());
        anyhow::anyhow!("`{}` gave no answer to row {asked}: {how}", self.name)
    }

    /// Ends it, if it does not end by itself, and says how that was, with its last words.
    fn end(&mut self) -> String {
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let how = match self.child.try_wait() {
            Ok(Some(status)) => describe(status),
            Ok(None) => "it closed its standard output and went on".to_string(),
            Err(error) => format!("it was lost: {error}"),
        };
        let _ = self.child.kill();
        // What it has started may hold the pipe open.
        let _ = self.silence.recv_timeout(PATIENCE);
        let last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        last_words.iter().fold(how, |text, line| format!("{text}\n{line}"))
    }

    /// Behind the last row: it has nothing more to say, and ends well.
    fn finish(mut self) -> anyhow::Result<()> {
        self.questions = None;
        let mut more = Vec::new();
        (&mut self.answers).take(LONGEST_ANSWER).read_until(b'\n', &mut more)?;
        if !more.is_empty() {
            let more = String::from_utf8_lossy(&more);
            bail!(
                "`{}` was asked about {} rows and said more: {}",
                self.name,
                self.asked,
                shown(more.trim_end(), SHOWN)
            );
        }
        let status = self.child.wait()?;
        if !status.success() {
            let how = self.end();
            bail!("`{}` answered all rows and then failed: {how}", self.name);
        }
        Ok(())
    }
}

/// Nothing is left behind, however the scoring ended.
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("it ended with exit code {code}"),
        None => format!("it died ({status})"),
    }
}

/// Keeps the last lines of `words`, cut where they are long.
fn listen(mut words: impl std::io::BufRead, heard: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut words).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                // What would do something to the terminal does nothing.
                let text = text.trim_end().replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push_back(text);
                if heard.len() > TAIL {
                    heard.pop_front();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    /// The scorer with a shell's script as its program.
    fn scorer(script: &str) -> Box<dyn Scorer> {
        let params = json!({ "command": ["sh", "-c", script], "metrics": ["a", "b"] });
        build(params, Path::new("")).unwrap()
    }

    fn ask(scorer: &mut dyn Scorer, prediction: &str) -> anyhow::Result<Scored> {
        let row = Row::from_iter([("n".to_string(), json!(3))]);
        scorer.score_row(&Answer { prediction, references: &["é".into()], row: &row })
    }

    #[test]
    fn each_row_is_a_question_and_an_answer() {
        let script = r#"while read -r line; do
            [ "$line" = '{"prediction":"x","references":["é"],"row":{"n":3}}' ] && a=1 || a=null
            echo "{\"b\": 0.5, \"a\": $a}"
        done"#;
        let mut scorer = scorer(script);
        assert_eq!(ask(&mut *scorer, "x").unwrap().values, [Some(1.0), Some(0.5)]);
        assert_eq!(ask(&mut *scorer, "y\n").unwrap().values, [None, Some(0.5)]);
        scorer.finish().unwrap();
    }

    #[track_caller]
    fn check_error(script: &str, expected: &str) {
        let mut scorer = scorer(script);
        let result = ask(&mut *scorer, "x").and_then(|_| ask(&mut *scorer, "y")).and_then(|_| scorer.finish());
        let message = format!("{:#}", result.unwrap_err());
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn whatever_goes_wrong_is_said() {
        let answers = |answer: &str| format!("while read -r line; do echo '{answer}'; done");
        check_error(&answers("hello"), "`sh` said `hello`: that is no JSON");
        check_error(&answers(r#"{"a": NaN, "b": 1}"#), "JSON has no NaN and no infinity; `null` says");
        check_error(&answers(r#"{"a": 1e999, "b": 1}"#), "that is no JSON");
        check_error(&answers(r#"{"a": 1}"#), "the metric `b` is missing");
        check_error(&answers(r#"{"a": 1, "b": "2"}"#), "`b` is \"2\": expected a number or null");
        check_error(&answers(r#"{"a": 1, "b": 1, "c": 1}"#), "`c` is none of `metrics`");
        check_error(&answers("[1, 2]"), "an answer is an object");
        let good = r#"{"a": 1, "b": 1}"#;
        check_error("echo oh no >&2; exit 3", "no answer to row 1: it ended with exit code 3\noh no");
        check_error(&format!("read line; echo '{good}'; kill -9 $$"), "no answer to row 2: it died");
        check_error(&format!("while read -r l; do printf '{good}\\n{good}\\n'; done"), "more than one line of row 1");
        check_error(
            &format!("read a; echo '{good}'; read b; echo '{good}'; read c; echo '{good}'"),
            "2 rows and said more",
        );
        check_error(
            &format!("read a; echo '{good}'; read b; echo '{good}'; echo bad >&2; exit 1"),
            "then failed: it ended with exit code 1\nbad",
        );
        check_error("exec >&-; echo closed >&2; sleep 600", "it closed its standard output and went on\nclosed");
        check_error("read line; printf '\\377\\n'", "no UTF-8");
        check_error("yes | tr -d '\\n'", "a line of more than 1048576 bytes");
        let mut missing = build(json!({ "command": ["./nowhere"], "metrics": ["a"] }), Path::new("")).unwrap();
        let message = format!("{:#}", ask(&mut *missing, "x").unwrap_err());
        assert!(message.contains("cannot start `./nowhere`"), "{message}");
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_the_scorer() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let mut scorer =
            scorer(&format!("echo $$ > '{}'; read line; echo '{{\"a\":1,\"b\":2}}'; exec sleep 600", mark.display()));
        ask(&mut *scorer, "x").unwrap();
        let pid = std::fs::read_to_string(&mark).unwrap();
        drop(scorer);
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid} is left behind");
    }

    #[test]
    fn parameters_that_make_no_sense_are_refused() {
        let wrong = |command: &[&str], metrics: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect();
            check(&CommandParams { command: list(command), metrics: list(metrics) }).unwrap_err().to_string()
        };
        assert_eq!(wrong(&[], &["a"]), "`command` names no program");
        assert_eq!(wrong(&["a\0"], &["a"]), "`command` holds a NUL byte");
        assert_eq!(wrong(&["a"], &[]), "`metrics` is empty");
        assert_eq!(wrong(&["a"], &["a.b"]), "`a.b` is no name of a metric: letters, digits, `_` and `-`");
        assert_eq!(wrong(&["a"], &["a", "a"]), "the metric `a` is listed twice");
    }
}
