//! Weights in safetensors files (or, where there are none, in PyTorch's): read with care, written so that equal weights are
//! equal bytes.
//!
//! Knows files, names, shapes and number types; not what the tensors are for.

use super::pickle::Pickle;
use anyhow::{Context as _, Result, bail, ensure};
use candle_core::DType;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The tensors of a folder, from one file or several.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(PathBuf, Source)>,
    tensors: BTreeMap<String, Place>,
}

/// A file, opened.
#[derive(Debug)]
enum Source {
    Safetensors(Mmap),
    Pickle(Pickle),
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Place {
    file: usize,
    shape: Vec<usize>,
    /// Of a safetensors file: the type of its numbers, and their bytes.
    bytes: Option<(Dtype, Range<usize>)>,
}

/// The files that may hold a model's weights, alone or by an index. The first that is there is read.
const FILES: [(&str, &str); 2] =
    [("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

impl Weights {
    /// Opens `model.safetensors` of a folder, or the files that its `model.safetensors.index.json` names; where there is
    /// neither, the same of `pytorch_model.bin`.
    pub fn open_model(folder: &Path) -> Result<Self> {
        for (single, index) in FILES {
            let (single, index) = (folder.join(single), folder.join(index));
            if single.exists() {
                return Self::open(&[single]);
            }
            if index.exists() {
                return Self::open(&shards(folder, &index)?);
            }
        }
        bail!(
            "`{}` has no weights: neither `model.safetensors` nor `model.safetensors.index.json`, nor a `pytorch_model.bin`",
            folder.display()
        )
    }

    /// Opens files; their headers must describe exactly the bytes that are there.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut weights = Self { files: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            let is_pickle = path.extension().is_some_and(|ending| ending == "bin");
            if is_pickle { weights.add_pickle(path)? } else { weights.add_safetensors(path)? }
        }
        Ok(weights)
    }

    fn add_safetensors(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        #[expect(unsafe_code, reason = "mapping a file has no safe form")]
        // SAFETY: models are inputs that nobody writes to while a stage runs; results in the cache are read-only.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot read `{}`", path.display()))?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .with_context(|| format!("`{}` is truncated, damaged, or no safetensors file", path.display()))?;
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let begin = size_of::<u64>() + header;
            let bytes = begin + info.data_offsets.0..begin + info.data_offsets.1;
            let file = self.files.len();
            self.add(name, Place { file, shape: info.shape.clone(), bytes: Some((info.dtype, bytes)) }, path)?;
        }
        self.files.push((path.to_path_buf(), Source::Safetensors(map)));
        Ok(())
    }

    fn add_pickle(&mut self, path: &Path) -> Result<()> {
        ensure!(path.exists(), "cannot read `{}`: there is no such file", path.display());
        let pickle = Pickle::open(path)?;
        for (name, shape) in pickle.tensors() {
            let file = self.files.len();
            self.add(name, Place { file, shape, bytes: None }, path)?;
        }
        self.files.push((path.to_path_buf(), Source::Pickle(pickle)));
        Ok(())
    }

    fn add(&mut self, name: String, place: Place, path: &Path) -> Result<()> {
        match self.tensors.entry(name) {
            Entry::Occupied(known) => bail!("`{}` has tensor `{}` a second time", path.display(), known.key()),
            Entry::Vacant(free) => {
                free.insert(place);
                Ok(())
            }
        }
    }

    /// The type of the first tensor that is no vector: matrices are of one type. `None` where nobody can say.
    pub fn matrix_type(&self) -> Option<DType> {
        let (name, place) = self.tensors.iter().find(|(_, place)| place.shape.len() > 1)?;
        match (&self.files[place.file].1, &place.bytes) {
            (Source::Safetensors(_), Some((dtype, _))) => DType::try_from(*dtype).ok(),
            (Source::Pickle(pickle), _) => pickle.type_of(name),
            (Source::Safetensors(_), None) => None,
        }
    }

    /// Names that nobody took yet, with their shapes.
    pub fn rest(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), place.shape.as_slice()))
    }

    /// What some makers left out before the names in their files, where others have `prefix`: they wrote only what is inside
    /// of the outermost module. Asked as long as no tensor has been taken.
    pub fn left_out(&self, prefix: &'static str) -> &'static str {
        if self.rest().any(|(name, _)| name.starts_with(prefix)) { "" } else { prefix }
    }

    /// Takes a tensor as f32, row-major. Fails where it is missing, has another shape, or holds what is no number.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let first = self.files.first().map(|(path, _)| path.display().to_string()).unwrap_or_default();
        let place = self.tensors.remove(name).with_context(|| format!("`{first}` has no tensor `{name}`"))?;
        let (path, map) = &self.files[place.file];
        let found = &place.shape;
        ensure!(found == shape, "`{}`: tensor `{name}` has shape {found:?}, not {shape:?}", path.display());
        let values = match (map, &place.bytes) {
            (Source::Safetensors(map), Some((dtype, bytes))) => numbers(*dtype, &map[bytes.clone()]),
            (Source::Pickle(pickle), _) => pickle.read(name),
            (Source::Safetensors(_), None) => bail!("`{}`: tensor `{name}` has no place", path.display()),
        };
        let values = values.with_context(|| format!("`{}`: tensor `{name}`", path.display()))?;
        ensure!(
            values.par_iter().with_min_len(TASK).all(|value| value.is_finite()),
            "`{}`: tensor `{name}` holds a value that is no finite number",
            path.display()
        );
        Ok(values)
    }
}

/// Names that are listed one by one.
const LISTED: usize = 4;

/// What speaks against the tensors of a model's files, each with its name and shape.
#[derive(Debug, Default)]
pub(super) struct Misfits {
    pub missing: Vec<String>,
    pub of_other_shapes: Vec<String>,
    pub unknown: Vec<String>,
}

impl Misfits {
    /// Fails with all of it, where there is any.
    pub fn refuse(self, folder: &Path) -> Result<()> {
        let Self { missing, of_other_shapes, unknown } = self;
        let parts: Vec<String> = [("missing", missing), ("of other shapes", of_other_shapes), ("unknown", unknown)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| {
                let more = names.len().saturating_sub(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{what}: {}{more}", names[..names.len().min(LISTED)].join(", "))
            })
            .collect();
        ensure!(
            parts.is_empty(),
            "`{}` does not hold the weights that its `config.json` describes; {}",
            folder.display(),
            parts.join("; ")
        );
        Ok(())
    }
}

/// The shards that an index names; all must be there.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let text = std::fs::read(index).with_context(|| format!("cannot read `{}`", index.display()))?;
    let names = crate::tensors::shards(&text).map_err(anyhow::Error::msg);
    let names = names.with_context(|| format!("`{}` cannot be used", index.display()))?;
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let missing: Vec<&String> =
        names.iter().zip(&paths).filter(|(_, path)| !path.exists()).map(|(name, _)| name).collect();
    ensure!(
        missing.is_empty(),
        "`{}` names {} files, of which {} {} missing: {}",
        index.display(),
        names.len(),
        missing.len(),
        if missing.len() == 1 { "is" } else { "are" },
        missing.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    );
    Ok(paths)
}

/// Numbers of a file as f32, decoded without a copy between.
fn numbers(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    let half = |bytes: [u8; 2]| u16::from_le_bytes(bytes);
    Ok(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F16 => each(bytes, |bytes| half::f16::from_bits(half(bytes)).to_f32()),
        Dtype::BF16 => each(bytes, |bytes| half::bf16::from_bits(half(bytes)).to_f32()),
        other => bail!("it holds {other:?}, not F32, F16 or BF16"),
    })
}

/// A number of every `N` bytes.
fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    bytes.as_chunks().0.par_iter().with_min_len(TASK).map(|bytes| number(*bytes)).collect()
}

/// A tensor to be written: its name, shape and row-major values.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name in the file.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Writes tensors as f32 into a safetensors file that transformers and PEFT read (they ask for the `format` entry).
pub fn write(path: &Path, tensors: &[NamedTensor]) -> Result<()> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|tensor| tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| Ok((tensor.name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    let file = safetensors::serialize(views, metadata)?;
    std::fs::write(path, file).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Rows and columns of a matrix that are turned together.
const TILE: usize = 32;
/// Numbers that are worth a task of their own.
const TASK: usize = 1 << 14;

/// A row-major `rows × cols` matrix as a row-major `cols × rows` one.
pub fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * cols, "a {rows} × {cols} matrix");
    let mut out = vec![0.0; values.len()];
    // Tile by tile, so that what is written stays near; each task has some rows of the output for itself.
    out.par_chunks_mut((TILE * rows).max(1)).enumerate().for_each(|(tile, out)| {
        let (first, width) = (tile * TILE, out.len() / rows);
        for begin in (0..rows).step_by(TILE) {
            for row in begin..rows.min(begin + TILE) {
                let line = &values[row * cols + first..][..width];
                line.iter().enumerate().for_each(|(col, value)| out[col * rows + row] = *value);
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<NamedTensor> {
        let tensor = |name: &str, shape: &[usize], values: &[f32]| NamedTensor {
            name: name.to_string(),
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        vec![tensor("b", &[2, 3], &[1., 2., 3., 4., 5., 6.]), tensor("a", &[1], &[0.5])]
    }

    #[test]
    fn what_is_written_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("model.safetensors"), &tensors()).unwrap();
        let mut weights = Weights::open_model(folder.path()).unwrap();
        assert_eq!(weights.take("b", &[2, 3]).unwrap(), [1., 2., 3., 4., 5., 6.]);
        assert!(format!("{:#}", weights.take("b", &[2, 3]).unwrap_err()).contains("has no tensor `b`"));
        assert_eq!(weights.rest().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
        let error = format!("{:#}", weights.take("a", &[2]).unwrap_err());
        assert!(error.contains("`a` has shape [1], not [2]"), "{error}");
    }

    #[test]
    fn half_precision_becomes_single() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        // 1.5 and -2 in bfloat16, and in IEEE half precision.
        let (brain, half) = ([0xC0, 0x3F, 0x00, 0xC0], [0x00, 0x3E, 0x00, 0xC0]);
        let brain = TensorView::new(Dtype::BF16, vec![2], &brain).unwrap();
        let half = TensorView::new(Dtype::F16, vec![2], &half).unwrap();
        let views = [("brain", brain), ("half", half)];
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let mut weights = Weights::open(&[path]).unwrap();
        assert_eq!(weights.take("brain", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(weights.take("half", &[2]).unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn shards_are_found_and_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let [b, a] = <[NamedTensor; 2]>::try_from(tensors()).unwrap();
        write(&folder.path().join("1.safetensors"), &[b]).unwrap();
        write(&folder.path().join("2.safetensors"), &[a]).unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        std::fs::write(&index, r#"{"weight_map": {"b": "1.safetensors", "a": "2.safetensors"}}"#).unwrap();
        let mut weights = Weights::open_model(folder.path()).unwrap();
        assert_eq!(weights.take("a", &[1]).unwrap(), [0.5]);
        std::fs::write(&index, r#"{"weight_map": {"b": "../1.safetensors"}}"#).unwrap();
        assert!(format!("{:#}", Weights::open_model(folder.path()).unwrap_err()).contains("../1.safetensors"));
    }

    /// Made by `tests/references/make_pickles.py`.
    #[test]
    fn a_model_in_files_of_torch_is_a_model() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickle/llama");
        let sums: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("sums.json")).unwrap()).unwrap();
        let model = crate::engine::model::Model::load(&[&folder]).unwrap();
        let tensors = model.tensors();
        // The output layer is the embedding; torch has it a second time.
        assert_eq!(tensors.len() + 1, sums.as_object().unwrap().len());
        for NamedTensor { name, values, .. } in tensors {
            let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
            assert!((sum - sums[&name][0].as_f64().unwrap()).abs() < 1e-5, "{name}");
            assert_eq!(f64::from(*values.last().unwrap()), sums[&name][1].as_f64().unwrap(), "{name}");
        }
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(folder.join("pytorch_model.bin.index.json"), copy.path().join("pytorch_model.bin.index.json"))
            .unwrap();
        let error = format!("{:#}", Weights::open_model(copy.path()).unwrap_err());
        assert!(
            error.contains("names 2 files, of which 2 are missing: `pytorch_model-00001-of-00002.bin`, "),
            "{error}"
        );
    }

    #[test]
    fn truncated_and_lying_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(&path, &tensors()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut lying = whole.clone();
        lying[7] = 0x7F;
        for bytes in [&whole[..whole.len() - 1], &whole[..20], &whole[..3], &[], &lying] {
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", Weights::open_model(folder.path()).unwrap_err());
            assert!(error.contains("model.safetensors"), "{error}");
        }
        let infinite = NamedTensor { name: "x".into(), shape: vec![1], values: vec![f32::INFINITY] };
        write(&path, &[infinite]).unwrap();
        let error = Weights::open_model(folder.path()).unwrap().take("x", &[1]).unwrap_err();
        assert!(format!("{error:#}").contains("no finite number"));
    }
}
