//! The command line.

use super::caching::Caching;
use super::hub::Hub;
use crate::journal::Asked;
use crate::resources::Cards;
use crate::settings::{Bytes, Seconds};
use crate::stage::Require;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// A declarative, content-cached pipeline runner for instruction-tuning experiments.
#[derive(Debug, Parser)]
#[command(name = "titer", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Print JSON: one document, or one event per line for `run`
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) caching: Caching,
    #[command(flatten)]
    pub(super) hub: Hub,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a commented manifest to start from
    Init {
        /// The file to write
        #[arg(default_value = "pipelines/experiment.toml")]
        path: PathBuf,
    },
    /// Print the JSON Schema of manifests, for editors: begin a manifest with `#:schema FILE`
    Schema,
    /// List the scorers; or show the metrics and settings of one
    Scorers {
        /// Which
        name: Option<String>,
    },
    /// Check a manifest and its data; run nothing
    Check(Manifest),
    /// Show what a run would do, why, and how long it may take
    Plan {
        #[command(flatten)]
        manifest: Manifest,
        #[command(flatten)]
        wanted: Wanted,
        /// Exit with 3 if anything would run
        #[arg(long)]
        check: bool,
    },
    /// Run what is not in the cache
    Run {
        #[command(flatten)]
        manifest: Manifest,
        #[command(flatten)]
        wanted: Wanted,
        /// Go on with what does not depend on a failed stage
        #[arg(long, short = 'k')]
        keep_going: bool,
        /// Send what is made to the shared cache, whatever the manifest says
        #[arg(long)]
        push: bool,
        /// Only show what would run, as `plan` does
        #[arg(long, short = 'n')]
        dry_run: bool,
        /// Hold to `titer.lock`: refuse other recipes, keys and outputs; with `recipe`, other recipes only
        #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
        locked: Option<Locked>,
        #[command(flatten)]
        machine: Machine,
    },
    /// Send a pipeline's results to the shared cache, as far as they are not there
    Push {
        #[command(flatten)]
        manifest: Manifest,
        /// Which, with all that they need: `train.adapter[n=80]` [default: the manifest's targets]
        #[arg(value_name = "SELECTOR")]
        selectors: Vec<String>,
    },
    /// Fetch a pipeline's results from the shared cache; run nothing
    Pull {
        #[command(flatten)]
        manifest: Manifest,
        /// Which, with all that they need: `train.adapter[n=80]` [default: the manifest's targets]
        #[arg(value_name = "SELECTOR")]
        selectors: Vec<String>,
    },
    /// Fetch models and files of a hub or a server into the cache; say how to write their addresses
    Fetch(FetchArgs),
    /// Show who reads whom
    Graph {
        #[command(flatten)]
        manifest: Manifest,
        /// As what
        #[arg(long, value_enum, default_value = "tree")]
        format: super::graph::Format,
        /// A box for each instance, not for each stage
        #[arg(long)]
        expand: bool,
    },
    /// Show how far each stage is
    Status(Manifest),
    /// Write a page of the results, down to the rows behind each number; or serve it while a run goes on
    Report(Report),
    /// Explain why instances would run: what differs from the last time
    Why {
        #[command(flatten)]
        manifest: Manifest,
        /// Which: `train.adapter`, `train.adapter[n=80]`
        selector: String,
    },
    /// Show the key, the record, the outputs and the log of instances; or what a run did
    Show {
        #[command(flatten)]
        what: Shown,
    },
    /// Print what instances said while they ran, or say it while they run
    Log {
        #[command(flatten)]
        manifest: Manifest,
        /// Which: `train.adapter`, `train.adapter[n=80]`
        selector: String,
        /// Go on until they have ended; wait for those that have not begun
        #[arg(long, short)]
        follow: bool,
        /// Only the last lines of what was said so far
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<usize>,
    },
    /// Write results for other programs: the curves of trainings, runs, scores and samples
    Export {
        #[command(flatten)]
        manifest: Manifest,
        /// For which
        #[arg(long, value_enum)]
        to: super::export::Format,
        /// The folder to write: a new one, or that of an earlier export, which is replaced
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Which results, with all that they need, instead of the manifest's targets: `train.adapter[n=80]`
        #[arg(long, short, value_name = "SELECTOR")]
        target: Vec<String>,
    },
    /// Change settings of a manifest; its comments and layout stay
    Set {
        /// The manifest
        #[arg(value_name = "MANIFEST")]
        path: PathBuf,
        #[command(flatten)]
        changes: Changes,
    },
    /// Take a result that was made elsewhere as the result of an instance
    Import {
        #[command(flatten)]
        manifest: Manifest,
        /// Whose: one instance, `train.adapter[n=80,run=1]`
        selector: String,
        /// A file, or a folder with the outputs under their names (`predictions.jsonl`, `model/`, …)
        from: PathBuf,
        /// Where it comes from; kept in the record
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Free space: what no recent run needs. Says what would go, and asks
    Gc(Gc),
    /// Keep results for ever, with what they were made of; without a selector, list what is kept
    Pin {
        #[command(flatten)]
        manifest: Manifest,
        /// Which: `aggregate.curve`, `train.adapter[n=80]`
        selector: Vec<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Not what they were made of
        #[arg(long)]
        only: bool,
    },
    /// Let go of pinned results
    Unpin {
        #[command(flatten)]
        manifest: Manifest,
        /// Which: a selector, or the first digits of a key
        #[arg(required = true)]
        selector: Vec<String>,
    },
    /// Take out of `out/` what no instance of the manifest shows any more
    Clean {
        #[command(flatten)]
        manifest: Manifest,
        /// All results; a run shows them again
        #[arg(long)]
        all: bool,
        /// Also let `gc` free the results of instances that the manifest has no more
        #[arg(long)]
        forget: bool,
        /// Only say what would go
        #[arg(long, short = 'n')]
        dry_run: bool,
    },
    /// Read all that is in the cache, and say what is damaged or lost
    Verify {
        /// Only the current results of this manifest
        #[arg(value_name = "MANIFEST")]
        path: Option<PathBuf>,
        /// Files to read at once [default: one for each processor, at least two]
        #[arg(long, short = 'j', value_name = "N")]
        jobs: Option<NonZeroU32>,
    },
    /// List the runs, the newest last
    Runs {
        /// Only those of this manifest
        manifest: Option<PathBuf>,
        /// How many
        #[arg(short, long, value_name = "N", default_value_t = 20)]
        number: usize,
    },
    /// Show what differs between two instances, two runs or two manifests
    #[command(after_help = DIFF_HELP)]
    Diff {
        /// MANIFEST SELECTOR SELECTOR, or A and B: each a run or a manifest; a manifest alone is compared with its last run
        #[arg(required = true, num_args = 1..=3, value_name = "WHAT")]
        what: Vec<String>,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Do again what is in the cache, and compare bit by bit; exit with 1 unless all is the same
    Audit {
        #[command(flatten)]
        manifest: Manifest,
        /// What to do again, instead of all that the manifest's targets need
        #[arg(value_name = "SELECTOR")]
        selectors: Vec<String>,
        /// Only so many instances, spread over the stages; the same ones each time
        #[arg(long, value_name = "K")]
        sample: Option<NonZeroU32>,
        #[command(flatten)]
        machine: Machine,
    },
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Do jobs whose files are named on standard input (titer starts this itself)
    #[command(hide = true)]
    Worker,
    /// End the process groups that are named on standard input when that closes (titer starts this itself)
    #[command(hide = true)]
    Guard,
}

/// A manifest, and what is changed of it for this call.
#[derive(Debug, Args)]
pub(super) struct Manifest {
    /// The manifest
    #[arg(value_name = "MANIFEST")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

/// What page of the results is wanted.
#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    pub(super) manifest: Manifest,
    /// The file to write [default: `report.html` beside the results, in `out/NAME/`]
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Show beside each answer what an earlier run answered: its name or the beginning of it, `last~1`
    #[arg(long, value_name = "RUN")]
    pub(super) against: Option<String>,
    /// Serve the page on 127.0.0.1, and follow a run as it goes on
    #[arg(long, conflicts_with = "output")]
    pub(super) serve: bool,
    /// The port to serve it on; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 8123, requires = "serve")]
    pub(super) port: u16,
}

/// What to fetch.
#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Manifests: all that they read of other machines; and addresses: `hf://owner/name@revision`,
    /// `hf://datasets/owner/name@revision/file`, `https://host/file`, `https://host/model/`
    #[arg(required = true, value_name = "MANIFEST|ADDRESS")]
    pub(super) what: Vec<String>,
    /// Of a model on a hub the tokenizer alone
    #[arg(long)]
    pub(super) tokenizer: bool,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

/// What to show.
#[derive(Debug, Args)]
pub(super) struct Shown {
    /// A manifest, or a run: its name or the beginning of it, `last`, `last~1`
    #[arg(value_name = "MANIFEST|RUN")]
    pub(super) what: String,
    /// Of the manifest, which instances: `train.adapter`, `train.adapter[n=80]`; or a run of it [default: the last]
    #[arg(value_name = "SELECTOR|RUN")]
    pub(super) selector: Option<String>,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

const DIFF_HELP: &str = "\
Examples:
  titer diff M 'train.adapter[n=80]' 'train.adapter[n=320]'   two instances
  titer diff last~1 last                                      two runs; or their names, or the beginnings of them
  titer diff old.toml new.toml                                two manifests
  titer diff M                                                the last run of M, and M as it is now
  titer diff M --set epochs=3                                 M, and M so changed";

/// What is changed of a manifest for this call.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Overrides {
    /// Set a parameter of `[params]`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Give an axis other values
    #[arg(long = "axis", value_name = "NAME=V,V,…")]
    pub(super) axis: Vec<String>,
    /// Use a `[variant.NAME]` of the manifest
    #[arg(long, value_name = "NAME")]
    pub(super) variant: Option<String>,
    /// Accept results of trainings and predictions that were made so: `device=cuda`
    #[arg(long, value_name = "device=KIND")]
    pub(super) require: Option<Require>,
}

impl Overrides {
    /// As a run's summary has it.
    pub(super) fn asked(&self) -> Asked {
        let Self { set, axis, variant, require } = self.clone();
        Asked { variant, set, axis, require: require.map(|require| require.to_string()), ..Asked::default() }
    }
}

/// What may go. Pinned results and what running processes need never does.
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Keep what the last K runs of each pipeline used [default: 5, if nothing else is said]
    #[arg(long, value_name = "K")]
    pub(super) keep_runs: Option<usize>,
    /// Keep what was made or used within this time: `30d`
    #[arg(long, value_name = "TIME")]
    pub(super) older_than: Option<Seconds>,
    /// Of the rest, free only what it takes to fit into this size, least recently used first: `20GiB`
    #[arg(long, value_name = "SIZE")]
    pub(super) max_size: Option<Bytes>,
    /// Also what was found damaged
    #[arg(long)]
    pub(super) quarantine: bool,
    /// Also the summaries of runs that are not kept
    #[arg(long)]
    pub(super) history: bool,
    /// Also models and files that were fetched; a run fetches them again
    #[arg(long)]
    pub(super) fetched: bool,
    /// Also the replies of APIs: whoever needs one pays for it again
    #[arg(long)]
    pub(super) ledger: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Only say what would go
    #[arg(long, short = 'n', conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// How long what no record names stays
    #[arg(long, hide = true, value_name = "TIME")]
    pub(super) grace: Option<Seconds>,
    /// How long others get to see that space is being freed
    #[arg(long, hide = true, value_name = "TIME")]
    pub(super) wait: Option<Seconds>,
}

/// What is changed of a manifest's text.
#[derive(Debug, Args)]
pub(super) struct Changes {
    /// Settings and their new values (TOML, else a text): `train.adapter.epochs=3 axes.n='[0, 20]'
    /// mix.train.sources.0.take=50`
    #[arg(value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Remove a setting
    #[arg(long, value_name = "KEY")]
    pub(super) unset: Vec<String>,
    /// Show what would change; write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What a run may use of this machine. Goes before `[limits]` of the manifest.
#[derive(Debug, Args)]
pub(super) struct Machine {
    /// Processors, and so jobs at once [default: all]
    #[arg(long, short = 'j', value_name = "N")]
    pub(super) jobs: Option<NonZeroU32>,
    /// Memory for the jobs that say how much they need [default: all]
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<Bytes>,
    /// Graphics cards, by number or name; `none` [default: `CUDA_VISIBLE_DEVICES`, else all]
    #[arg(long, value_name = "CARD,…", value_parser = cards)]
    pub(super) gpus: Option<Cards>,
}

fn cards(text: &str) -> Result<Cards, std::convert::Infallible> {
    Ok(Cards::parse(text))
}

/// What is wanted of a pipeline.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// What to make, instead of the manifest's targets: `score.quality[n=80]`
    #[arg(long, short, value_name = "SELECTOR")]
    pub(super) target: Vec<String>,
    /// What to run even if it is cached; a result that differs is reported
    #[arg(long, short, value_name = "SELECTOR")]
    pub(super) force: Vec<String>,
}

/// To what a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Locked {
    /// To every byte
    All,
    /// To what a person decides: for another kind of device, which makes other bytes
    Recipe,
}
