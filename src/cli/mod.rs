//! Words in, words out: the command line, and the only room that prints or reads the environment.

mod args;
mod clean;
mod explain;
mod gc;
mod graph;
mod init;
mod machine;
mod out;
mod overview;
mod pin;
mod progress;
mod project;
mod run;
mod snapshot;
mod verify;

use crate::settings::Seconds;
use crate::store::Settings;
use args::{Cli, Command};
use clap::{CommandFactory as _, Parser as _};
use project::{Failure, Project};
use snapshot::Question;
use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was wanted is there.
    Done = 0,
    /// A stage failed; `verify` found something wrong.
    StageFailed = 1,
    /// A mistake in the manifest, its data or the call; nothing was run.
    Usage = 2,
    /// `plan --check`: something would run.
    WouldRun = 3,
    /// Stopped by the person.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(Failure::Problems(problems, sources)) => {
            if json {
                out::json(&out::problems_json(&problems, &sources));
            } else {
                out::problems(&problems, &sources);
            }
            Exit::Usage.into()
        }
        Err(Failure::Other(error)) => {
            if json {
                out::json(&serde_json::json!({ "problems": [{ "message": format!("{error:#}") }] }));
            } else {
                out::complain(format!("{} {error:#}", out::styled(out::BAD, "error:")));
            }
            Exit::Usage.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, json, cache, no_locks, patience } = cli;
    let patience = patience.map_or(Settings::default().patience, Seconds::duration);
    let settings = Settings { locks: !no_locks, patience };
    let load = |manifest: &args::Manifest| Project::load(manifest, cache.as_deref(), &settings);
    match command {
        Command::Init { path } => init::write(&path, json),
        Command::Schema => {
            out::json(&crate::manifest::schema());
            Ok(Exit::Done)
        }
        Command::Check(manifest) => overview::check(&load(&manifest)?, json),
        Command::Plan { manifest, wanted, check } => overview::plan(&load(&manifest)?, &wanted, check, json),
        Command::Graph { manifest, format, expand } => graph::show(&load(&manifest)?, format, expand, json),
        Command::Status(manifest) => overview::status(&load(&manifest)?, json),
        Command::Run { manifest, wanted, dry_run: true, .. } => overview::plan(&load(&manifest)?, &wanted, false, json),
        Command::Run { manifest, wanted, keep_going, machine, .. } => {
            // JSON has an event for every instance.
            let question = Question::of(&manifest, &wanted, cache.as_deref()).filter(|_| !json);
            if let Some(exit) = question.as_ref().and_then(run::recall) {
                return Ok(exit);
            }
            run::run(&load(&manifest)?, &wanted, keep_going, &machine, question.as_ref(), json)
        }
        Command::Why { manifest, selector } => explain::why(&load(&manifest)?, &selector, json),
        Command::Show { manifest, selector, log } => explain::show(&load(&manifest)?, &selector, log, json),
        Command::Gc(gc) => gc::run(&project::open_cache(cache.as_deref(), &settings)?, &gc, json),
        Command::Pin { manifest, selector, note, only } => {
            let project = load(&manifest)?;
            match selector.is_empty() {
                true => pin::list(&project, json),
                false => pin::pin(&project, &selector, note.as_deref(), only, json),
            }
        }
        Command::Unpin { manifest, selector } => pin::unpin(&load(&manifest)?, &selector, json),
        Command::Clean { manifest, all, forget, dry_run } => {
            clean::run(&load(&manifest)?, clean::Extent { all, forget, dry: dry_run }, json)
        }
        Command::Verify { path: None, jobs } => {
            verify::cache(&project::open_cache(cache.as_deref(), &settings)?, jobs, json)
        }
        Command::Verify { path: Some(path), jobs } => {
            let manifest = args::Manifest { path, set: Vec::new(), axis: Vec::new(), variant: None };
            verify::pipeline(&load(&manifest)?, jobs, json)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "titer", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Guard => {
            crate::exec::guard(std::io::stdin().lock());
            Ok(Exit::Done)
        }
        Command::Worker => {
            // The kernel ends a worker whose parent is gone; the work of a stage that nobody waits for is waste.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            crate::exec::serve(std::io::stdin().lock(), std::io::stdout())?;
            Ok(Exit::Done)
        }
    }
}
