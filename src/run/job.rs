//! One job of a run: its work folder, its inputs laid out under their names, its log, its commit.

use crate::exec::{Job, Local, Placement};
use crate::key::{Digest, KeyDocument};
use crate::manifest::Instance;
use crate::plan::{Material, Place};
use crate::record::{FileEntry, RunInfo};
use crate::settings::Bytes;
use crate::stage::{Earlier, Input, Progress, Recipe};
use crate::store::{Claim, Committed, Store, Watch, WorkDir};
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A job that is queued or runs.
pub(super) struct Running {
    pub(super) document: KeyDocument,
    materials: Vec<Material>,
    /// It is made though it may be there.
    is_forced: bool,
    /// The right to make the key; what was seen of it while another process had it.
    claim: Option<Claim>,
    watch: Watch,
    /// Set when it starts.
    started: Option<Started>,
    warnings: Vec<String>,
    /// How often it was started.
    tries: u32,
    /// Where it says what it does.
    log_path: Option<PathBuf>,
    /// Between two tries: when the next one begins.
    rests_until: Option<Instant>,
}

/// Bytes of a log.
const LONGEST_LOG: u64 = 64 << 20;

struct Started {
    at: Instant,
    /// It was asked to end, as it took too long.
    asked: bool,
    progress: Progress,
    /// Bytes of its log.
    logged: u64,
    info: RunInfo,
    work: WorkDir,
    log: File,
}

impl Running {
    pub(super) fn new(document: KeyDocument, materials: Vec<Material>, is_forced: bool) -> Self {
        Self {
            document,
            materials,
            is_forced,
            claim: None,
            watch: Watch::default(),
            started: None,
            warnings: Vec::new(),
            tries: 0,
            log_path: None,
            rests_until: None,
        }
    }

    /// Bytes that it reads.
    pub(super) fn size(&self) -> u64 {
        self.materials.iter().map(Material::size).sum()
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.claim.is_some()
    }

    /// Whether another process has taken the right to make the key away, as this one seemed dead.
    pub(super) fn was_overtaken(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| !claim.is_held())
    }

    /// Tries to get the right to make the key, and says whether it has it.
    pub(super) fn claim(&mut self, key: &Digest, store: &Store) -> anyhow::Result<bool> {
        self.claim = store.claim(key, &mut self.watch)?;
        Ok(self.claim.is_some())
    }

    /// Shows others that the key is made again, which the cache has, or may.
    pub(super) fn claim_again(&mut self, store: &Store) -> anyhow::Result<()> {
        if self.claim.is_none() {
            self.claim = Some(store.claim_again(&self.document.key())?);
        }
        Ok(())
    }

    /// Where it says, or said, what it does; none if it has not started.
    pub(super) fn log_path(&self) -> Option<&Path> {
        self.log_path.as_deref()
    }

    /// Lays out the inputs and gives the job to a worker.
    pub(super) fn start(
        &mut self,
        node: usize,
        instance: &Instance,
        store: &Store,
        workers: &Local,
        root: &Path,
        placement: &Placement,
    ) -> anyhow::Result<()> {
        verify(&self.materials, store)?;
        let work = store.work_dir()?;
        let output = output_folder(work.path());
        std::fs::create_dir(&output).with_context(|| format!("creating `{}`", output.display()))?;
        let inputs = lay_out(&self.materials, &work.path().join("in"), store)?;
        self.tries += 1;
        let log = self.open_log(store)?;
        let name = instance.id.to_string();
        let job = Job {
            instance: name.clone(),
            recipe: instance.recipe.clone(),
            hints: instance.hints.clone(),
            inputs,
            output,
            earlier: self.earlier(&instance.recipe, store)?,
            root: std::path::absolute(root).context("finding the project")?,
            shares: self.shares(&instance.recipe),
        };
        let info = RunInfo {
            device: device_at_first(&instance.recipe, placement.gpus.as_deref().unwrap_or_default()).to_string(),
            threads: u32::try_from(placement.threads).unwrap_or(u32::MAX),
            gpus: placement.gpus.clone().unwrap_or_default(),
            tries: self.tries,
            ..RunInfo::begin(&name)
        };
        self.started = Some(Started {
            at: Instant::now(),
            asked: false,
            progress: Progress::default(),
            logged: 0,
            info,
            work,
            log,
        });
        let work = self.started.as_ref().map(|started| started.work.path()).unwrap_or(Path::new(""));
        workers.start(node, &job, work, placement)
    }

    /// The key of the model that it holds, and others with it, if there is one: all layers but the last, which is the
    /// adapter beside them; of a model of one layer, that.
    fn shares(&self, recipe: &Recipe) -> Option<Digest> {
        let (role, precision) = recipe.holds()?;
        let of_model =
            |material: &&Material| material.role.strip_prefix(role).is_some_and(|rest| rest.starts_with('.'));
        let mut layers: Vec<&Material> = self.materials.iter().filter(of_model).collect();
        layers.sort_by_key(|layer| (layer.role.len(), layer.role.as_str()));
        let mut hasher = blake3::Hasher::new();
        hasher.update(precision.as_bytes());
        let held = match &layers[..] {
            [base @ .., _adapter] if !base.is_empty() => base,
            alone => alone,
        };
        for layer in held {
            hasher.update(layer.digest.as_bytes());
        }
        Some(hasher.finalize().into())
    }

    /// Where earlier attempts left what they had. A forced one does everything again, but what was paid for is not paid for
    /// again.
    fn earlier(&self, recipe: &Recipe, store: &Store) -> anyhow::Result<Earlier> {
        let absolute = |path: PathBuf| std::path::absolute(path).context("finding the cache");
        let ledger = recipe.asks_an_api().then(|| absolute(store.ledger())).transpose()?;
        if self.is_forced {
            return Ok(Earlier { ledger, ..Earlier::default() });
        }
        let unfinished = recipe.goes_on().then(|| absolute(store.unfinished(&self.document.key()))).transpose()?;
        let scope = |role| self.document.scope(role, recipe.settings_about_rows());
        let rows = recipe.rows_role().map(|role| absolute(store.rows(&scope(role)))).transpose()?;
        Ok(Earlier { unfinished, rows, ledger })
    }

    /// A new try's log comes after that of the one before. The log of a result that is there is not touched.
    fn open_log(&mut self, store: &Store) -> anyhow::Result<File> {
        let key = self.document.key();
        let path = match &self.log_path {
            Some(path) => path.clone(),
            None => {
                let is_made = store.get(&key)?.is_some_and(|record| store.complete(&record));
                let path = if is_made { store.again_log_path(&key) } else { store.log_path(&key) };
                // A new file: one who was taken for dead may still write to the old one.
                let _ = std::fs::remove_file(&path);
                path
            }
        };
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("creating the log `{}`", path.display()))?;
        self.log_path = Some(path);
        Ok(log)
    }

    /// How often it was started.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// It failed, and is to be started again after a pause. What it wrote is removed.
    pub(super) fn rest(&mut self, pause: Duration) {
        self.started = None;
        self.rests_until = Some(Instant::now() + pause);
    }

    pub(super) fn is_rested(&self) -> bool {
        self.rests_until.is_some_and(|until| until <= Instant::now())
    }

    pub(super) fn wake(&mut self) {
        self.rests_until = None;
    }

    /// How far it is beyond its time limit.
    pub(super) fn overdue(&self, limit: Option<Duration>) -> Option<Duration> {
        self.started.as_ref()?.at.elapsed().checked_sub(limit?)
    }

    /// Whether it was asked to end; remembers that it was. `true` the first time.
    pub(super) fn ask_once(&mut self) -> bool {
        self.started.as_mut().is_some_and(|started| !std::mem::replace(&mut started.asked, true))
    }

    /// Whether it was asked to end because of its time limit.
    pub(super) fn was_asked(&self) -> bool {
        self.started.as_ref().is_some_and(|started| started.asked)
    }

    pub(super) fn progress(&mut self, progress: Progress) {
        if let Some(started) = &mut self.started {
            started.progress = progress;
        }
    }

    /// Seconds that the work will still take, as its progress says.
    #[expect(clippy::cast_precision_loss, reason = "a guess")]
    pub(super) fn expected_rest(&self) -> Option<f64> {
        let Progress { done, total, .. } = &self.started.as_ref()?.progress;
        (*done > 0 && done <= total).then(|| self.seconds() * (total - done) as f64 / *done as f64)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.as_ref().map_or(0.0, |started| started.at.elapsed().as_secs_f64())
    }

    /// A log that cannot be written must not end the work, nor may one without end fill the disk.
    pub(super) fn log(&mut self, line: &str) {
        let Some(started) = &mut self.started else { return };
        let before = started.logged;
        started.logged += line.len() as u64 + 1;
        let _ = match (before <= LONGEST_LOG, started.logged <= LONGEST_LOG) {
            (_, true) => writeln!(started.log, "{line}"),
            (true, false) => writeln!(started.log, "(the log is cut here: it is longer than {})", Bytes(LONGEST_LOG)),
            (false, false) => Ok(()),
        };
    }

    /// The kind of device that does the arithmetic, as far as is known.
    pub(super) fn device(&self) -> &str {
        self.started.as_ref().map_or("cpu", |started| &started.info.device)
    }

    /// Cards were set aside for it, and the processor does the work.
    pub(super) fn wastes_cards(&self) -> bool {
        self.started.as_ref().is_some_and(|started| !started.info.gpus.is_empty() && started.info.device == "cpu")
    }

    pub(super) fn computes_on(&mut self, device: &str) {
        if let Some(started) = &mut self.started {
            started.info.device = device.to_string();
        }
    }

    pub(super) fn warn(&mut self, message: &str) {
        self.log(&format!("warning: {message}"));
        self.warnings.push(message.to_string());
    }

    /// Digests of what the worker wrote.
    pub(super) fn weigh(&self, instance: &Instance, store: &Store) -> anyhow::Result<BTreeMap<String, Digest>> {
        Ok(store.weigh(&output_folder(self.work()?), &instance.recipe.outputs())?)
    }

    /// Keeps what the worker wrote where a person can look at it, and says where. It is no result.
    pub(super) fn set_apart(&self, store: &Store) -> anyhow::Result<PathBuf> {
        Ok(store.set_apart(&output_folder(self.work()?), &self.document.key())?)
    }

    fn work(&self) -> anyhow::Result<&Path> {
        Ok(self.started.as_ref().context("a job that was not started has made nothing")?.work.path())
    }

    /// Takes what the worker wrote into the cache.
    pub(super) fn commit(&self, instance: &Instance, store: &Store) -> anyhow::Result<Committed> {
        let started = self.started.as_ref().context("a job that was not started cannot be committed")?;
        let mut info = started.info.clone();
        info.wall_seconds = self.seconds();
        info.warnings.clone_from(&self.warnings);
        let folder = output_folder(started.work.path());
        Ok(store.commit(&folder, &instance.recipe.outputs(), &self.document, info)?)
    }
}

fn output_folder(work: &Path) -> PathBuf {
    work.join("out")
}

/// The kind of device, as far as can be said before the work begins: a command is taken to use the cards that it gets,
/// titer's own work says itself what it uses.
fn device_at_first(recipe: &Recipe, cards: &[String]) -> &'static str {
    if matches!(recipe, Recipe::Command(_)) && !cards.is_empty() { "cuda" } else { "cpu" }
}

/// Inputs under the names that readers expect (the store's files have none): links into the store, or the person's paths.
/// A folder of its own is for what is one, or has the name of another.
fn lay_out(materials: &[Material], folder: &Path, store: &Store) -> anyhow::Result<Vec<Input>> {
    let make = |folder: &Path| {
        std::fs::create_dir(folder).with_context(|| format!("creating `{}`", folder.display()))?;
        anyhow::Ok(folder.to_path_buf())
    };
    let link = |file: &FileEntry, folder: &Path| {
        let path = folder.join(&file.path);
        // A part of a model has a folder of its own.
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("creating `{}`", parent.display()))?;
        }
        let object = std::path::absolute(store.path(&file.digest))?;
        std::os::unix::fs::symlink(object, &path).with_context(|| format!("creating `{}`", path.display()))?;
        anyhow::Ok(path)
    };
    if materials.iter().any(|material| matches!(material.place, Place::Object(_) | Place::Objects(_))) {
        make(folder)?;
    }
    let mut names = BTreeSet::new();
    let lay = |(number, material): (usize, &Material)| -> anyhow::Result<Input> {
        let own = folder.join(format!("{number}.input"));
        let path = match &material.place {
            Place::Path(path) | Place::Fetched { path, .. } => std::path::absolute(path)?,
            Place::Object(file) if names.insert(file.path.clone()) => link(file, folder)?,
            Place::Object(file) => link(file, &make(&own)?)?,
            Place::Objects(files) => {
                make(&own)?;
                files.iter().try_for_each(|file| link(file, &own).map(drop))?;
                own
            }
        };
        Ok(Input { role: material.role.clone(), labels: material.labels.clone(), name: material.name.clone(), path })
    };
    materials.iter().enumerate().map(lay).collect()
}

/// Objects that were damaged or edited are found before a job reads them: they must not cost hours, nor give a result
/// under a wrong key.
fn verify(materials: &[Material], store: &Store) -> anyhow::Result<()> {
    for material in materials {
        let files = match &material.place {
            Place::Path(_) => continue,
            Place::Fetched { files, .. } => {
                verify_fetched(&material.name, files, store)?;
                continue;
            }
            Place::Object(file) => std::slice::from_ref(file),
            Place::Objects(files) => files.as_slice(),
        };
        for file in files {
            if !store.is_sound(&file.digest)? {
                anyhow::bail!(
                    "the cached `{}` is damaged: `{}` has not the bytes that were kept; run again, and it is made anew",
                    material.name,
                    file.path
                );
            }
        }
    }
    Ok(())
}

/// The same of what comes from elsewhere.
fn verify_fetched(name: &str, files: &[FileEntry], store: &Store) -> anyhow::Result<()> {
    let mut is_here = !files.is_empty();
    for file in files {
        is_here &= store.is_sound(&file.digest)?;
    }
    anyhow::ensure!(is_here, "`{name}` is not in the cache any more, or not as it came; run again, and it is fetched");
    Ok(())
}
