//! What a pipeline reads of other machines: `titer fetch`, and what `titer run` fetches by itself.

use super::args::FetchArgs;
use super::caching::Caching;
use super::out;
use super::project::{Failure, Project};
use super::{Exit, args};
use crate::address::{Address, ENDPOINT, Extent, Place};
use crate::diagnostic::Diagnostic;
use crate::plan::{Elsewhere, Resolver};
use crate::store::Store;
use clap::Args;
use std::path::PathBuf;

/// Which hub is asked, and what opens its closed doors.
#[derive(Clone, Debug, Args)]
pub(super) struct Hub {
    /// The hub of models that `hf://…` means
    #[arg(long = "hub", global = true, env = "HF_ENDPOINT", value_name = "URL", default_value = ENDPOINT)]
    endpoint: String,
    /// The environment variable with the token for models that are not for everybody
    #[arg(long, global = true, env = "TITER_HUB_TOKEN_FROM", value_name = "VARIABLE", default_value = "HF_TOKEN")]
    hub_token_from: String,
}

/// Fetches what the nodes read of other machines, as far as it is `wanted`. Returns whether there was anything.
pub(super) fn bring(
    project: &Project,
    resolver: &Resolver<'_>,
    nodes: impl IntoIterator<Item = usize>,
    hub: &Hub,
    as_json: bool,
    wanted: impl Fn(&Elsewhere) -> bool,
) -> Result<bool, Failure> {
    let mut missing: Vec<Elsewhere> = Vec::new();
    for found in nodes.into_iter().flat_map(|node| resolver.elsewhere(node)) {
        // No `gc` takes it away from under this process.
        let kept = found.files.iter().try_for_each(|file| project.store.rely_on_object(&file.digest));
        kept.map_err(anyhow::Error::from)?;
        if wanted(&found)
            && !missing.iter().any(|other| (&other.address, other.extent) == (&found.address, found.extent))
        {
            missing.push(found);
        }
    }
    if missing.is_empty() {
        return Ok(false);
    }
    // A whole model brings its tokenizer.
    missing.sort_by_key(|found| found.extent);
    let courier = Courier::new(&project.store, hub, as_json)?;
    let mut problems = Vec::new();
    for found in missing {
        if let Err(error) = courier.bring(&found.address, found.extent) {
            problems.push(Diagnostic::at(found.span, format!("{error:#}")));
        }
        if courier.is_stopped() {
            return Err(anyhow::anyhow!("stopped; what has come so far is kept").into());
        }
    }
    resolver.forget();
    if problems.is_empty() { Ok(true) } else { Err(project.failure(problems)) }
}

/// `titer fetch`.
pub(super) fn fetch(args: &FetchArgs, caching: &Caching, hub: &Hub, as_json: bool) -> Result<Exit, Failure> {
    for text in &args.what {
        if Address::is_meant(text) {
            alone(text, args.tokenizer, caching, hub, as_json)?;
        } else {
            let manifest = args::Manifest { path: PathBuf::from(text), overrides: args.overrides.clone() };
            let project = Project::load(&manifest, caching)?;
            let nodes = 0..project.pipeline.instances.len();
            let any = bring(&project, &project.resolver(), nodes, hub, as_json, |found| !found.is_here)?;
            if !any && !as_json {
                out::say(format!("`{text}` reads nothing of other machines that is not here"));
            }
        }
    }
    Ok(Exit::Done)
}

/// An address that stands in no manifest, perhaps: it is pinned, and what is there is fetched.
fn alone(text: &str, tokenizer: bool, caching: &Caching, hub: &Hub, as_json: bool) -> Result<(), Failure> {
    let address = Address::parse(text).map_err(anyhow::Error::msg)?;
    let extent = match &address.place {
        Place::Hub(repository) if repository.file.is_none() && tokenizer => Extent::Tokenizer,
        Place::Hub(repository) if repository.file.is_none() && !repository.is_data => Extent::Model,
        Place::Web(url) if url.ends_with('/') => Extent::Model,
        _ => Extent::File,
    };
    let store = caching.open(&caching.here_or_new()?)?;
    Courier::new(&store, hub, as_json)?.pin_and_bring(&address, extent)?;
    Ok(())
}

#[cfg(feature = "hub")]
use courier::Courier;

#[cfg(feature = "hub")]
mod courier {
    use super::*;
    use crate::cli::out::{GOOD, styled};
    use crate::fetch::{Fetcher, Settings, Token};
    use crate::settings::Bytes;
    use crate::store::Fetched;
    use anyhow::Context as _;
    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
    use serde_json::json;
    use std::io::IsTerminal as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Fetches, and says so.
    pub(super) struct Courier<'a> {
        fetcher: Fetcher<'a>,
        stop: Arc<AtomicBool>,
        as_json: bool,
    }

    impl<'a> Courier<'a> {
        pub(super) fn new(store: &'a Store, hub: &Hub, as_json: bool) -> anyhow::Result<Self> {
            if !store.writable() {
                let cache = store.root().display();
                anyhow::bail!("the cache `{cache}` is read-only: nothing can be fetched into it");
            }
            let name = &hub.hub_token_from;
            // Nothing but this variable is looked at, and its value goes nowhere but to the hub.
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            let token = value.map(|value| Token::new(&value.to_string_lossy())).transpose();
            let token = token.with_context(|| format!("the variable {name} cannot be used"))?;
            let stop = super::super::watch_for_interruption()?;
            let fetcher = Fetcher::new(store, Settings::new(&hub.endpoint, token, name)?, Arc::clone(&stop))?;
            Ok(Self { fetcher, stop, as_json })
        }

        pub(super) fn is_stopped(&self) -> bool {
            self.stop.load(Ordering::SeqCst)
        }

        pub(super) fn bring(&self, address: &Address, extent: Extent) -> anyhow::Result<Fetched> {
            let is_shown = !self.as_json && std::io::stderr().is_terminal();
            let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
            let bar = ProgressBar::with_draw_target(None, target).with_prefix(address.name().to_string());
            let template = "{spinner} {prefix} {msg} {wide_bar} {bytes}/{total_bytes}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
            let fetched = self.fetcher.fetch(address, extent, &mut |told| {
                bar.set_message(told.file.to_string());
                told.total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
                bar.set_position(told.done);
            });
            bar.finish_and_clear();
            let fetched = fetched?;
            match self.as_json {
                true => out::json_line(&json!({
                    "event": "fetched", "address": address.to_string(), "bytes": fetched.size(),
                    "digest": fetched.digest(), "files": fetched.files,
                })),
                false => {
                    let files = fetched.files.len();
                    out::say(format!(
                        "{} {} (files: {files}, {})",
                        styled(GOOD, "fetched"),
                        address.bare(),
                        Bytes(fetched.size())
                    ));
                }
            }
            Ok(fetched)
        }

        pub(super) fn pin_and_bring(&self, address: &Address, extent: Extent) -> anyhow::Result<()> {
            let mut pinned = self.fetcher.pin(address)?;
            let fetched = self.bring(&pinned, extent)?;
            if matches!(pinned.place, Place::Web(_)) {
                pinned.digest = Some(fetched.digest());
            }
            if !self.as_json {
                out::say(format!("write: \"{pinned}\""));
            } else {
                out::json_line(&json!({ "event": "pinned", "address": pinned.to_string() }));
            }
            Ok(())
        }
    }
}

/// Says that nothing can be fetched.
#[cfg(not(feature = "hub"))]
struct Courier;

#[cfg(not(feature = "hub"))]
impl Courier {
    fn new(_: &Store, _: &Hub, _: bool) -> anyhow::Result<Self> {
        anyhow::bail!("this titer was built without the feature `hub`: it cannot fetch models and files")
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn bring(&self, _: &Address, _: Extent) -> anyhow::Result<()> {
        Ok(())
    }

    fn pin_and_bring(&self, _: &Address, _: Extent) -> anyhow::Result<()> {
        Ok(())
    }
}
