//! Weights in PyTorch's own files (`pytorch_model.bin`): a zip with a pickle that says what there is, and the numbers.
//!
//! A pickle is a program. This one is not run: candle's reader builds values of it and calls nothing. Before that, it is
//! looked through once ([`inspect`]): it may name nothing but tensors, and must not be made to eat memory.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::DType;
use candle_core::pickle::{PthTensors, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A description of more bytes is none of a model.
const LONGEST: u64 = 64 << 20;

/// What a description of tensors names.
const KNOWN: &[(&str, &str)] = &[
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch", "BFloat16Storage"),
    ("torch", "BoolStorage"),
    ("torch", "ByteStorage"),
    ("torch", "DoubleStorage"),
    ("torch", "FloatStorage"),
    ("torch", "HalfStorage"),
    ("torch", "IntStorage"),
    ("torch", "LongStorage"),
];

/// A file of PyTorch.
pub(super) struct Pickle {
    path: PathBuf,
    tensors: PthTensors,
}

impl std::fmt::Debug for Pickle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pickle({})", self.path.display())
    }
}

impl Pickle {
    /// The type of a tensor's numbers.
    pub(super) fn type_of(&self, name: &str) -> Option<DType> {
        self.tensors.tensor_infos().get(name).map(|info| info.dtype)
    }

    /// Opens a file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let advice = "save the model as safetensors, which every transformers does";
        let listed = list(path).with_context(|| format!("`{name}` is not read: {advice}"))?;
        let open = || PthTensors::new(path, None);
        // Whatever it stumbles over in a file that looked right.
        let tensors = catch_unwind(AssertUnwindSafe(open)).ok().and_then(Result::ok);
        let tensors =
            tensors.with_context(|| format!("`{name}` describes its tensors in a way that is not read: {advice}"))?;
        let found = tensors.tensor_infos().len();
        ensure!(found > 0 || listed > 0, "`{name}` holds no tensors");
        ensure!(found == listed, "`{name}`: of {listed} tensors only {found} can be read: {advice}");
        Ok(Self { path: path.to_path_buf(), tensors })
    }

    /// Names and shapes, sorted by name.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |info: &TensorInfo| info.layout.shape().dims().to_vec();
        let infos = self.tensors.tensor_infos().iter();
        let mut found: Vec<(String, Vec<usize>)> = infos.map(|(name, info)| (name.clone(), shape(info))).collect();
        found.sort();
        found
    }

    /// The numbers of a tensor, row-major.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.tensors.tensor_infos().get(name).context("it is not there")?;
        ensure!(
            matches!(info.dtype, DType::F32 | DType::F16 | DType::BF16),
            "it holds {:?}, not F32, F16 or BF16",
            info.dtype
        );
        let size = info.layout.shape().elem_count();
        ensure!(size <= info.storage_size, "it has {size} numbers, its storage {}", info.storage_size);
        let read = || -> candle_core::Result<Vec<f32>> {
            let tensor = self.tensors.get(name)?.ok_or_else(|| candle_core::Error::Msg("it is not there".into()))?;
            tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
        };
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(values) => Ok(values?),
            Err(_) => bail!("it cannot be read"),
        }
    }
}

/// Looks through the description in a file, and says how many tensors it has.
fn list(path: &Path) -> Result<usize> {
    let file = File::open(path)?;
    let mut zip = zip::ZipArchive::new(BufReader::new(file))
        .ok()
        .context("it is no zip: it is damaged, or torch before 1.6 wrote it")?;
    let names: Vec<String> =
        zip.file_names().map(|name| name.map(|name| name.into_owned())).collect::<Result<_, _>>()?;
    let mut descriptions = names.iter().filter(|name| name.ends_with("data.pkl"));
    let (Some(name), None) = (descriptions.next(), descriptions.next()) else {
        bail!("it has no description of tensors, or several");
    };
    let mut text = Vec::new();
    zip.by_name(name)?.take(LONGEST + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= LONGEST, "its description of tensors has more than {LONGEST} bytes");
    inspect(&text)
}

/// What was put on the stack last.
#[derive(Clone, Copy, PartialEq)]
enum Top {
    /// A number, a text, a name.
    Plain,
    /// Something with other things in it.
    Holder,
}

/// The name that stands before the parts of every tensor.
const TENSOR: &str = "_rebuild_tensor_v2";

/// Walks through a pickle, of which it knows the steps that a description of tensors has. Returns how many tensors it
/// describes.
fn inspect(text: &[u8]) -> Result<usize> {
    let mut steps = Steps { text, at: 0 };
    let mut tensors = 0;
    let (mut last, mut is_tensor) = (Top::Plain, false);
    // What is kept under a number: what it is, and whether it is the name of tensors.
    let mut kept: BTreeMap<u32, (Top, bool)> = BTreeMap::new();
    loop {
        let step = steps.byte()?;
        let was_tensor = std::mem::take(&mut is_tensor);
        match step {
            b'q' | b'r' => {
                let place = steps.number(if step == b'q' { 1 } else { 4 })?;
                kept.insert(place, (last, was_tensor));
            }
            b'h' | b'j' => {
                let place = steps.number(if step == b'h' { 1 } else { 4 })?;
                (last, is_tensor) = *kept.get(&place).context("it asks for what it has not kept")?;
                // A few such steps could make more values than any memory holds.
                ensure!(last == Top::Plain, "its tensors share parts of their descriptions");
                tensors += usize::from(is_tensor);
            }
            b'c' => {
                let (module, class) = (steps.line()?, steps.line()?);
                if !KNOWN.contains(&(module, class)) {
                    bail!(
                        "it names `{}.{}`, which is no part of a tensor",
                        module.escape_debug(),
                        class.escape_debug()
                    );
                }
                is_tensor = class == TENSOR;
                tensors += usize::from(is_tensor);
                last = Top::Plain;
            }
            b'.' => return Ok(tensors),
            // The version of the form.
            0x80 => steps.skip(1)?,
            _ => {
                last = match step {
                    b't' | 0x85..=0x87 | b's' | b'u' | b'b' | b'a' | b'e' | b'Q' | b'R' => Top::Holder,
                    _ => Top::Plain,
                };
                let length = match step {
                    b'K' => 1,
                    b'M' => 2,
                    b'J' => 4,
                    b'G' => 8,
                    b'X' => steps.number(4)? as usize,
                    0x8a => steps.number(1)? as usize,
                    b'N' | b')' | b']' | b'}' | b'(' | 0x88 | 0x89 => 0,
                    _ if last == Top::Holder => 0,
                    other => bail!("it has a step {other:#04x} that no description of tensors has"),
                };
                ensure!(step != 0x8a || length <= 7, "it holds a number of {length} bytes");
                steps.skip(length)?;
            }
        }
    }
}

struct Steps<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Steps<'a> {
    fn skip(&mut self, length: usize) -> Result<()> {
        self.take(length).map(drop)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.text.len());
        let end = end.context("its description of tensors ends too early")?;
        Ok(&self.text[std::mem::replace(&mut self.at, end)..end])
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self, bytes: usize) -> Result<u32> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn line(&mut self) -> Result<&'a str> {
        let length = self.text[self.at..].iter().position(|byte| *byte == b'\n');
        let line = self.take(length.context("its description of tensors ends too early")?)?;
        self.skip(1)?;
        std::str::from_utf8(line).context("it holds a name that is no text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// Made by `tests/references/make_pickles.py`.
    fn reference(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickle").join(name)
    }

    fn error(path: &Path) -> String {
        format!("{:#}", Pickle::open(path).unwrap_err())
    }

    #[test]
    fn tensors_of_three_types_are_read_as_torch_wrote_them() {
        let pickle = Pickle::open(&reference("tensors.bin")).unwrap();
        let names: Vec<(String, Vec<usize>)> = pickle.tensors();
        let expected =
            [("brain", vec![2, 2]), ("half", vec![2]), ("ids", vec![3]), ("part", vec![2]), ("single", vec![2, 3])];
        assert_eq!(names, expected.map(|(name, shape)| (name.to_string(), shape)));
        assert_eq!(pickle.read("single").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(pickle.read("part").unwrap(), [3.0, 4.0], "a part of another's storage");
        assert_eq!(pickle.read("half").unwrap(), [1.5, -2.0]);
        assert_eq!(pickle.read("brain").unwrap(), [1.5, -2.0, 0.0, 3.0]);
        assert!(format!("{:#}", pickle.read("ids").unwrap_err()).contains("I64"));
    }

    #[test]
    fn a_pickle_that_would_do_something_is_refused_and_does_nothing() {
        let mark = std::env::temp_dir().join("titer-pickle-was-run");
        let _ = std::fs::remove_file(&mark);
        let message = error(&reference("malicious.bin"));
        assert!(message.contains("it names `posix.system`, which is no part of a tensor"), "{message}");
        assert!(!mark.exists());
    }

    #[test]
    fn what_is_no_file_of_torch_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let whole = std::fs::read(reference("tensors.bin")).unwrap();
        for bytes in [&b""[..], b"\x80\x02}q\x00.", &whole[..whole.len() / 2]] {
            std::fs::write(&path, bytes).unwrap();
            let message = error(&path);
            assert!(message.contains("x.bin` is not read") && message.contains("it is no zip"), "{message}");
        }
    }

    #[test]
    fn descriptions_that_eat_memory_or_stop_short_are_refused() {
        let zip = |text: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let mut zip = zip::ZipWriter::new(&mut file);
            zip.start_file("archive/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text).unwrap();
            zip.finish().unwrap();
            error(file.path())
        };
        // Each step holds the last one twice.
        let mut bomb = b"\x80\x02K\x01K\x01\x86q\x00".to_vec();
        (0..40).for_each(|_| bomb.extend(b"h\x00h\x00\x86q\x00"));
        assert!(zip(&bomb).contains("share parts of their descriptions"), "{}", zip(&bomb));
        assert!(zip(b"\x80\x02X\xff\xff\xff\xffabc").contains("ends too early"));
        assert!(zip(b"\x80\x02}").contains("ends too early"));
        assert!(zip(b"\x8a\x09123456789.").contains("a number of 9 bytes"));
        assert!(zip(b"\x80\x02i__builtin__\neval\n.").contains("a step 0x69"));
        assert!(zip(b"ctorch\nFloatStorage\n.").contains("no tensors"), "{}", zip(b"ctorch\nFloatStorage\n."));
        // Names a tensor and gives it too few parts: candle's reader stumbles.
        assert!(zip(b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n)Rs.").contains("not read"));
    }
}
