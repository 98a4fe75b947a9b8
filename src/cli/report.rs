//! `titer report`: the page of a pipeline's results, as a file or served while a run goes on.

use super::Exit;
use super::args::{self, Wanted};
use super::caching::Caching;
use super::out;
use super::project::{Failure, Project, from_root};
use super::runs::Runs;
use super::serve::{self, Answer, Request};
use crate::journal::{Asked, RunSummary};
use crate::key::Digest;
use crate::report::page::{self, Page, Pieces, Warning};
use crate::settings::Bytes;
use crate::survey::{self, Held, Subject};
use anyhow::{Context as _, anyhow, bail};
use serde_json::json;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(super) fn report(args: &args::Report, caching: &Caching, as_json: bool) -> Result<Exit, Failure> {
    let project = Project::load(&args.manifest, caching)?;
    let runs = Runs::of(caching, &args.manifest.path).ok();
    let against = args.against.as_deref().map(|run| match &runs {
        Some(runs) => runs.find(run),
        None => bail!("there is no run `{run}`: nothing has run yet"),
    });
    let against = against.transpose()?;
    let mut view = View { project, runs, against, held: Held::new(Pieces::new(scratch()?)) };
    match args.serve {
        true => serve(view, args.port, as_json),
        false => write(&mut view, args.output.as_deref(), as_json),
    }
}

/// Where rows are packed: a file without a name.
fn scratch() -> anyhow::Result<std::fs::File> {
    tempfile::tempfile().context("cannot make a scratch file for the rows")
}

/// What the page is made of.
struct View {
    project: Project,
    runs: Option<Runs>,
    against: Option<RunSummary>,
    held: Held,
}

impl View {
    /// The page as things are now.
    fn page(&mut self) -> Result<Page, Failure> {
        let Self { project, against, held, .. } = self;
        let asked = project.overrides.asked();
        let (run, last) = match &self.runs {
            Some(runs) => (runs.last_of(&asked)?, runs.last(1)?.pop()),
            None => (None, None),
        };
        let resolver = project.resolver();
        let everything = Wanted { target: Vec::new(), force: Vec::new() };
        let plan = match project.plan(&resolver, &everything) {
            Ok((plan, _)) => Some(plan),
            // Data that has moved away takes no result away.
            Err(Failure::Problems(..)) => None,
            Err(other) => return Err(other),
        };
        let subject = Subject {
            pipeline: &project.pipeline,
            store: &project.store,
            resolver: &resolver,
            plan: plan.as_ref(),
            run: run.as_ref(),
            against: against.as_ref(),
        };
        let mut page = survey::page(&subject, held)?;
        project.tell_warnings();
        page.manifest = from_root(&project.root, &project.manifest);
        page.options = asked.words();
        page.texts = survey::texts(project.texts());
        if let Some(hint) = last.as_ref().filter(|_| run.is_none()).and_then(|last| other_call(last, &page)) {
            page.warnings.insert(0, Warning { about: None, text: hint });
        }
        Ok(page)
    }

    /// What tells whether the page has changed: what the last run says, and what is being made.
    fn state(&self) -> anyhow::Result<String> {
        let run = self.runs.as_ref().map(|runs| runs.last_of(&self.project.overrides.asked())).transpose()?.flatten();
        let workers = self.project.store.at_work()?;
        let keys: Vec<String> = workers.keys().map(ToString::to_string).collect();
        let last = self.project.store.last_run(&self.project.pipeline.name)?;
        Ok(Digest::of(json!([run, keys, last]).to_string().as_bytes()).to_string()[..16].to_string())
    }
}

/// That the last run was of the manifest with other options.
fn other_call(last: &RunSummary, page: &Page) -> Option<String> {
    let Asked { variant, set, axis, .. } = last.asked.clone();
    let words = Asked { variant, set, axis, ..Asked::default() }.words().join(" ");
    let others = if words.is_empty() { "without options".to_string() } else { format!("with `{words}`") };
    let call = format!("titer report {} {words}", page.manifest);
    Some(format!("the last run of this manifest was called {others}: `{}` shows it", call.trim_end()))
}

fn write(view: &mut View, output: Option<&Path>, as_json: bool) -> Result<Exit, Failure> {
    let path = match output {
        Some(path) => path.to_path_buf(),
        None => default_path(&view.project)?,
    };
    if path.is_dir() {
        return Err(anyhow!(
            "`{}` is a folder: name a file for the page, such as `{}`",
            path.display(),
            path.join("report.html").display()
        )
        .into());
    }
    let page = view.page()?;
    let size = write_file(&page, &mut view.held.pieces, &path)?;
    let rows: usize = page.sets.iter().map(|set| set.rows).sum();
    // What concerns all of it is told here, too.
    page.warnings.iter().filter(|warning| warning.about.is_none()).for_each(|warning| out::warn(&warning.text));
    if as_json {
        out::json(&json!({
            "page": path, "bytes": size, "rows": rows, "systems": page.sets.len(), "tables": page.tables.len(),
            "figures": page.figures.len(), "warnings": page.warnings.len(), "run": page.run.as_ref().map(|run| &run.id),
        }));
        return Ok(Exit::Done);
    }
    if page.run.is_none() {
        out::say("it has not run yet: the page shows what was asked, and what the cache has of it");
    }
    let shown = [(page.tables.len(), "table"), (page.figures.len(), "figure"), (page.warnings.len(), "warning")];
    let mut parts = vec![Bytes(size).to_string()];
    parts.extend(shown.iter().filter(|(number, _)| *number > 0).map(|(number, thing)| out::count(*number, thing)));
    if rows > 0 {
        parts.push(format!("{} of {}", out::count(rows, "row"), out::count(page.sets.len(), "system")));
    }
    out::say(format!("{}: {}", out::relative_to_here(&path).display(), parts.join(", ")));
    Ok(Exit::Done)
}

/// `out/NAME/report.html`, beside the results.
fn default_path(project: &Project) -> anyhow::Result<PathBuf> {
    let folder = project.root.join("out").join(&project.pipeline.name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder `{}`; `-o FILE` names another place", folder.display()))?;
    Ok(folder.join("report.html"))
}

/// Writes the page in one step: who reads it meanwhile has the old one. Returns its size.
fn write_file(page: &Page, pieces: &mut Pieces, path: &Path) -> anyhow::Result<u64> {
    let failed = || format!("cannot write the page `{}`", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("cannot write the page `{}`: there is no folder `{}`", path.display(), folder.display());
    }
    let file = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file());
    page::write(page, pieces, &mut writer).and_then(|()| writer.flush()).with_context(failed)?;
    drop(writer);
    let size = file.as_file().metadata().with_context(failed)?.len();
    file.persist(path).with_context(failed)?;
    Ok(size)
}

/// A page that is served, as it was made last.
struct Live {
    view: View,
    page: Page,
}

fn serve(mut view: View, port: u16, as_json: bool) -> Result<Exit, Failure> {
    let interrupted = super::watch_for_interruption()?;
    let listener = serve::listen(port)?;
    let address = format!("http://{}/", listener.local_addr().context("asking for the port")?);
    let state = view.state()?;
    let page = Page { state, ..view.page()? };
    let live = Mutex::new(Live { view, page });
    match as_json {
        true => out::json_line(&json!({ "page": address })),
        false => out::say(format!("{address} shows `{}` as it goes on; Ctrl-C ends it", lock(&live).page.pipeline)),
    }
    serve::serve(&listener, &interrupted, &|request| {
        lock(&live).answer(request).unwrap_or_else(|error| Answer::failure(&format!("{error:#}")))
    })?;
    Ok(Exit::Done)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    fn answer(&mut self, request: &Request) -> anyhow::Result<Answer> {
        match request.path.as_str() {
            "/" => {
                self.refresh()?;
                Ok(Answer::html(page::shell(&self.page, true)))
            }
            "/page.json" => {
                self.refresh()?;
                let is_known = request.query == format!("since={}", self.page.state);
                let known = json!({ "state": self.page.state });
                Ok(Answer::json(if is_known { known.to_string() } else { serde_json::to_string(&self.page)? }))
            }
            path => match path.strip_prefix("/pieces/") {
                Some(name) => Ok(self.view.held.pieces.get(name)?.map_or_else(Answer::absent, Answer::bytes)),
                None => Ok(Answer::absent()),
            },
        }
    }

    /// Makes the page anew if something has happened.
    fn refresh(&mut self) -> anyhow::Result<()> {
        let state = self.view.state()?;
        if state != self.page.state {
            let page = self.view.page().map_err(|failure| match failure {
                Failure::Other(error) => error,
                Failure::Unreached(message) => anyhow!(message),
                Failure::Problems(..) => anyhow!("the manifest or its data has mistakes: `titer check` says which"),
            })?;
            self.page = Page { state, ..page };
        }
        Ok(())
    }
}
