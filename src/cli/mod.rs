//! Words in, words out: the command line, and the only room that prints or reads the environment.

mod args;
mod audit;
mod caching;
mod clean;
mod diary;
mod diff;
mod explain;
mod export;
mod gc;
mod graph;
mod hub;
mod import;
mod init;
mod lock;
mod log;
mod machine;
mod observations;
mod out;
mod overview;
mod owner;
mod pin;
mod progress;
mod project;
mod report;
mod root;
mod run;
mod runs;
mod scorers;
mod serve;
mod set;
mod share;
mod snapshot;
mod tail;
mod verify;

use anyhow::Context as _;
use args::{Cli, Command};
use clap::{CommandFactory as _, Parser as _};
use project::{Access, Failure, Project};
use share::Share;
use snapshot::Question;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was wanted is there.
    Done = 0,
    /// A stage failed; an audit found a difference; `verify` found something wrong.
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
        Err(Failure::Unreached(message)) => {
            complain(&message, json);
            Exit::StageFailed.into()
        }
        Err(Failure::Other(error)) => {
            complain(&format!("{error:#}"), json);
            Exit::Usage.into()
        }
    }
}

fn complain(message: &str, json: bool) {
    if json {
        out::json(&serde_json::json!({ "problems": [{ "message": message }] }));
    } else {
        out::complain(format!("{} {message}", out::styled(out::BAD, "error:")));
    }
}

/// A flag that Ctrl-C sets. The second time it is meant at once; the kernel ends the workers with this process.
fn watch_for_interruption() -> anyhow::Result<Arc<AtomicBool>> {
    static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(interrupted) = INTERRUPTED.get() {
        return Ok(Arc::clone(interrupted));
    }
    let interrupted = Arc::clone(INTERRUPTED.get_or_init(Arc::default));
    let flag = Arc::clone(&interrupted);
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Exit::Interrupted as u8));
        }
    };
    ctrlc::set_handler(handler).context("watching for Ctrl-C")?;
    Ok(interrupted)
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, json, caching, hub } = cli;
    let load_for = |manifest: &args::Manifest, share, access| Project::load_for(manifest, &caching, share, access);
    let load = |manifest: &args::Manifest| Project::load(manifest, &caching);
    match command {
        Command::Init { path } => init::write(&path, json),
        Command::Schema => {
            out::json(&crate::manifest::schema());
            Ok(Exit::Done)
        }
        Command::Scorers { name } => scorers::show(name.as_deref(), json),
        Command::Check(manifest) => overview::check(&load(&manifest)?, json),
        Command::Plan { manifest, wanted, check } => overview::plan(&load(&manifest)?, &wanted, check, json),
        Command::Fetch(what) => hub::fetch(&what, &caching, &hub, json),
        Command::Graph { manifest, format, expand } => graph::show(&load(&manifest)?, format, expand, json),
        Command::Status(manifest) => overview::status(&load(&manifest)?, json),
        Command::Report(report) => report::report(&report, &caching, json),
        Command::Gc(gc) => gc::run(&caching.open(&caching.here()?)?, &gc, json),
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
        Command::Verify { path: None, jobs } => verify::cache(&caching.open(&caching.here()?)?, jobs, json),
        Command::Verify { path: Some(path), jobs } => {
            let manifest = args::Manifest { path, overrides: args::Overrides::default() };
            verify::pipeline(&load(&manifest)?, jobs, json)
        }
        Command::Run { manifest, wanted, dry_run: true, locked, .. } => {
            let project = load(&manifest)?;
            locked.map_or(Ok(()), |locked| lock::check(&project, &wanted, locked))?;
            overview::plan(&project, &wanted, false, json)
        }
        Command::Run { manifest, wanted, keep_going, locked, machine, push, .. } => {
            // JSON has an event for every instance, and a lock is held to by name.
            let question = Question::of(&manifest, &wanted, &caching).filter(|_| !json && locked.is_none());
            if let Some(exit) = question.as_ref().and_then(run::recall) {
                return Ok(exit);
            }
            let manner = run::Manner { keep_going, locked, question };
            let share = if push { Share::Write } else { Share::AsWritten };
            run::run(&load_for(&manifest, share, Access::Make)?, &wanted, &manner, &machine, &hub, json)
        }
        Command::Runs { manifest, number } => runs::list(&caching, manifest.as_deref(), number, json),
        Command::Diff { what, overrides } => diff::diff(&what, &overrides, &caching, json),
        Command::Audit { manifest, selectors, sample, machine } => {
            audit::audit(&load(&manifest)?, &selectors, sample, &machine, &hub, json)
        }
        Command::Push { manifest, selectors } => {
            share::push(&load_for(&manifest, Share::Push, Access::Look)?, selectors, json)
        }
        Command::Pull { manifest, selectors } => {
            share::pull(&load_for(&manifest, Share::Pull, Access::Make)?, selectors, json)
        }
        Command::Why { manifest, selector } => explain::why(&load(&manifest)?, &selector, json),
        Command::Show { what } => runs::show(&what, &caching, json),
        Command::Log { manifest, selector, follow, lines } => {
            log::log(&load_for(&manifest, Share::Leave, Access::Look)?, &selector, log::Options { follow, lines }, json)
        }
        Command::Set { path, changes } => set::set(&path, &changes, json),
        Command::Import { manifest, selector, from, note } => {
            import::import(&load_for(&manifest, Share::AsWritten, Access::Make)?, &selector, &from, note, json)
        }
        Command::Export { manifest, to, folder, target } => {
            export::export(&load(&manifest)?, to, &folder, target, json)
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
            #[expect(clippy::disallowed_methods, reason = "this is `cli`")]
            let environment = |name: &str| std::env::var(name).ok();
            crate::exec::serve(std::io::stdin().lock(), std::io::stdout(), &environment)?;
            Ok(Exit::Done)
        }
    }
}
