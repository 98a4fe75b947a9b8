//! The command line.

use crate::resources::Cards;
use crate::settings::Bytes;
use clap::{Args, Parser, Subcommand};
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
    /// The cache folder [default: `cache` in the project's root]
    #[arg(long, global = true, env = "TITER_CACHE", value_name = "DIR")]
    pub(super) cache: Option<PathBuf>,
    /// A second cache that machines share: a folder, `s3://bucket/prefix`, or `none` [default: `[cache] shared` of the
    /// manifest]
    #[arg(long, global = true, env = "TITER_SHARED", value_name = "ADDRESS")]
    pub(super) shared: Option<String>,
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
    /// Explain why instances would run: what differs from the last time
    Why {
        #[command(flatten)]
        manifest: Manifest,
        /// Which: `train.adapter`, `train.adapter[n=80]`
        selector: String,
    },
    /// Show the key, the record, the outputs and the log of instances
    Show {
        #[command(flatten)]
        manifest: Manifest,
        /// Which: `train.adapter`, `train.adapter[n=80]`
        selector: String,
        /// Print only the log
        #[arg(long)]
        log: bool,
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
    /// Set a parameter of `[params]`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Give an axis other values
    #[arg(long = "axis", value_name = "NAME=V,V,…")]
    pub(super) axis: Vec<String>,
    /// Use a `[variant.NAME]` of the manifest
    #[arg(long, value_name = "NAME")]
    pub(super) variant: Option<String>,
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
