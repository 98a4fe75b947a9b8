//! One job of a run: its work folder, its inputs laid out under their names, its log, its commit.

use crate::exec::{Job, Local};
use crate::key::{Digest, KeyDocument};
use crate::manifest::Instance;
use crate::plan::{Material, Place};
use crate::record::{FileEntry, Machine, RunInfo};
use crate::stage::Input;
use crate::store::{Claim, Committed, Store, Watch, WorkDir};
use anyhow::Context as _;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A job that is queued or runs.
pub(super) struct Running {
    pub(super) document: KeyDocument,
    materials: Vec<Material>,
    /// The right to make the key; what was seen of it while another process had it.
    claim: Option<Claim>,
    watch: Watch,
    /// Set when it starts.
    started: Option<Started>,
    warnings: Vec<String>,
}

struct Started {
    at: Instant,
    info: RunInfo,
    work: WorkDir,
    log: File,
}

impl Running {
    pub(super) fn new(document: KeyDocument, materials: Vec<Material>) -> Self {
        Self { document, materials, claim: None, watch: Watch::default(), started: None, warnings: Vec::new() }
    }

    /// Bytes that it reads.
    pub(super) fn size(&self) -> u64 {
        self.materials.iter().map(Material::size).sum()
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.claim.is_some()
    }

    /// Tries to get the right to make the key, and says whether it has it.
    pub(super) fn claim(&mut self, key: &Digest, store: &Store) -> anyhow::Result<bool> {
        self.claim = store.claim(key, &mut self.watch)?;
        Ok(self.claim.is_some())
    }

    /// Lays out the inputs and gives the job to a worker.
    pub(super) fn start(
        &mut self,
        node: usize,
        instance: &Instance,
        store: &Store,
        workers: &Local,
        slots: usize,
    ) -> anyhow::Result<()> {
        if instance.id.kind.is_heavy() {
            verify(&self.materials, store)?;
        }
        let work = store.work_dir()?;
        let output = output_folder(work.path());
        std::fs::create_dir(&output).with_context(|| format!("creating `{}`", output.display()))?;
        let inputs = lay_out(&self.materials, &work.path().join("in"), store)?;
        let log_path = store.log_path(&self.document.key());
        let log = File::create(&log_path).with_context(|| format!("creating the log `{}`", log_path.display()))?;
        let threads = instance.hints.threads.map_or(slots, |threads| threads.max(1) as usize);
        let name = instance.id.to_string();
        let job = Job {
            instance: name.clone(),
            recipe: instance.recipe.clone(),
            hints: instance.hints.clone(),
            inputs,
            output,
        };
        let info = RunInfo {
            instance: name,
            started: jiff::Timestamp::now().to_string(),
            wall_seconds: 0.0,
            machine: Machine::here(),
            device: "cpu".to_string(),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            program: env!("CARGO_PKG_VERSION").to_string(),
            warnings: Vec::new(),
        };
        self.started = Some(Started { at: Instant::now(), info, work, log });
        let work = self.started.as_ref().map(|started| started.work.path()).unwrap_or(Path::new(""));
        workers.start(node, &job, work, threads)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.as_ref().map_or(0.0, |started| started.at.elapsed().as_secs_f64())
    }

    /// A log that cannot be written must not end the work.
    pub(super) fn log(&mut self, line: &str) {
        if let Some(started) = &mut self.started {
            let _ = writeln!(started.log, "{line}");
        }
    }

    pub(super) fn warn(&mut self, message: &str) {
        self.log(&format!("warning: {message}"));
        self.warnings.push(message.to_string());
    }

    /// Takes what the worker wrote into the cache.
    pub(super) fn commit(&self, instance: &Instance, store: &Store) -> anyhow::Result<Committed> {
        let started = self.started.as_ref().context("a job that was not started cannot be committed")?;
        let mut info = started.info.clone();
        info.wall_seconds = self.seconds();
        info.warnings.clone_from(&self.warnings);
        let folder = output_folder(started.work.path());
        Ok(store.commit(&folder, instance.id.kind.outputs(), &self.document, info)?)
    }
}

fn output_folder(work: &Path) -> PathBuf {
    work.join("out")
}

/// Inputs under the names that readers expect (the store's files have none): links into the store, or the person's paths.
fn lay_out(materials: &[Material], folder: &Path, store: &Store) -> anyhow::Result<Vec<Input>> {
    let link = |file: &FileEntry, folder: &Path| -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(folder).with_context(|| format!("creating `{}`", folder.display()))?;
        let path = folder.join(&file.path);
        let object = std::path::absolute(store.path(&file.digest))?;
        std::os::unix::fs::symlink(object, &path).with_context(|| format!("creating `{}`", path.display()))?;
        Ok(path)
    };
    let lay = |(number, material): (usize, &Material)| -> anyhow::Result<Input> {
        let folder = folder.join(number.to_string());
        let path = match &material.place {
            Place::Path(path) => std::path::absolute(path)?,
            Place::Object(file) => link(file, &folder)?,
            Place::Objects(files) => {
                for file in files {
                    link(file, &folder)?;
                }
                folder
            }
        };
        Ok(Input { role: material.role.clone(), labels: material.labels.clone(), name: material.name.clone(), path })
    };
    materials.iter().enumerate().map(lay).collect()
}

/// Re-hashes what an expensive stage is about to read: a damaged object must not cost hours.
fn verify(materials: &[Material], store: &Store) -> anyhow::Result<()> {
    for material in materials {
        let files = match &material.place {
            Place::Path(_) => continue,
            Place::Object(file) => std::slice::from_ref(file),
            Place::Objects(files) => files.as_slice(),
        };
        for file in files {
            if !store.verify(&file.digest)? {
                anyhow::bail!(
                    "the cached `{}` is damaged: the bytes of `{}` are not those of its digest; run again, and it is made anew",
                    material.name,
                    file.path
                );
            }
        }
    }
    Ok(())
}
