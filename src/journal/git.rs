//! Which revision of a project a run used. Git is asked as a process: it knows best, and may not be there.

use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A network file system may keep git waiting; a run must not wait with it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is checked out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The commit.
    pub commit: String,
    /// Whether a tracked file differs from it.
    pub dirty: bool,
}

/// The revision of the folder `root`. `None`: it is not in a repository, there is no git, or that does not answer.
pub fn revision(root: &Path) -> Option<Revision> {
    parse(&ask(Command::new("git").arg("-C").arg(root).args(STATUS), PATIENCE)?)
}

/// A repository's own settings must not start programs, and reading it must not write its index.
const STATUS: [&str; 8] = [
    "--no-optional-locks",
    "-c",
    "core.fsmonitor=false",
    "status",
    "--porcelain=v2",
    "--branch",
    "--untracked-files=no",
    "--ignore-submodules=none",
];

fn ask(command: &mut Command, patience: Duration) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let (sender, answer) = mpsc::channel();
    // Ends when git does, at the latest when that is killed.
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = sender.send(read.map(|_| text));
    });
    let answer = answer.recv_timeout(patience);
    end(&mut child, answer.is_err());
    answer.ok()?.ok()
}

fn end(child: &mut Child, kill: bool) {
    if kill {
        let _ = child.kill();
    }
    let _ = child.wait();
}

fn parse(status: &str) -> Option<Revision> {
    let commit = status.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    // A repository without a commit has nothing to be named by.
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dirty = status.lines().any(|line| !line.starts_with('#'));
    is_commit.then(|| Revision { commit: commit.to_string(), dirty })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_git_says_is_read() {
        let commit = "92b21dd0000000000000000000000000000000ab";
        let clean = format!("# branch.oid {commit}\n# branch.head main\n");
        assert_eq!(parse(&clean), Some(Revision { commit: commit.into(), dirty: false }));
        let dirty = format!("{clean}1 .M N... 100644 100644 100644 1 2 a.toml\n");
        assert_eq!(parse(&dirty), Some(Revision { commit: commit.into(), dirty: true }));
        assert_eq!(parse("# branch.oid (initial)\n# branch.head main\n"), None);
        assert_eq!(parse(""), None, "no repository");
    }

    #[test]
    fn a_git_that_does_not_answer_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(ask(Command::new("sleep").arg("600"), Duration::from_millis(20)), None);
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(ask(&mut Command::new("no-such-program"), PATIENCE), None);
        assert_eq!(ask(Command::new("echo").arg("x"), PATIENCE).as_deref(), Some("x\n"));
    }
}
