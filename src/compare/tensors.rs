//! Safetensors files side by side, tensor by tensor, read in pieces: weights may be larger than memory.
//!
//! The form is a length (8 bytes, little end first), a JSON header `{name: {dtype, shape, data_offsets}}`, then the data.

use super::values::apart;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// How two files of tensors differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tensors {
    /// Tensors that both files have.
    pub common: usize,
    /// Those of them that differ, by name.
    pub differing: Vec<Tensor>,
    /// Names that only the old file has.
    pub removed: Vec<String>,
    /// Names that only the new file has.
    pub added: Vec<String>,
}

/// How two tensors of one name differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// Elements.
    pub elements: u64,
    /// Elements that differ.
    pub differing: u64,
    /// The largest absolute difference; none if the elements are not comparable (another type or shape, one that is not
    /// known), or all that differ are not numbers.
    pub largest_absolute: Option<f64>,
    /// The largest difference, divided by the larger of the two sizes.
    pub largest_relative: Option<f64>,
    /// The types and shapes, where they differ: `F32 [2, 3] → F16 [2, 3]`.
    pub form: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A file, opened, and where its tensors are.
struct Reader {
    file: File,
    data: u64,
    entries: BTreeMap<String, Entry>,
}

/// What a header may be long.
const LONGEST_HEADER: u64 = 100 << 20;
/// Bytes that are compared at once; a multiple of all sizes of elements.
const PIECE: usize = 1 << 18;

/// Compares two files. `None`: one of them is no file of tensors.
pub(super) fn files(old: &Path, new: &Path) -> io::Result<Option<Tensors>> {
    let (Some(mut old), Some(mut new)) = (Reader::open(old)?, Reader::open(new)?) else { return Ok(None) };
    let mut tensors = Tensors::default();
    let names: BTreeSet<String> = old.entries.keys().chain(new.entries.keys()).cloned().collect();
    for name in names {
        match (old.entries.contains_key(&name), new.entries.contains_key(&name)) {
            (true, false) => tensors.removed.push(name),
            (false, _) => tensors.added.push(name),
            (true, true) => {
                tensors.common += 1;
                tensors.differing.extend(compare(name, &mut old, &mut new)?);
            }
        }
    }
    let Tensors { differing, removed, added, .. } = &tensors;
    let equal = differing.is_empty() && removed.is_empty() && added.is_empty();
    // Only the headers are written otherwise: then the bytes are all there is to say.
    Ok((!equal).then_some(tensors))
}

impl Reader {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut length = [0; 8];
        if size < 8 {
            return Ok(None);
        }
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER || length > size - 8 {
            return Ok(None);
        }
        let mut header = Vec::new();
        (&mut file).take(length).read_to_end(&mut header)?;
        let Ok(mut header) = serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(&header) else {
            return Ok(None);
        };
        header.remove("__metadata__");
        let entries =
            header.into_iter().map(|(name, entry)| Some((name, serde_json::from_value::<Entry>(entry).ok()?)));
        let Some(entries) = entries.collect::<Option<BTreeMap<_, _>>>() else { return Ok(None) };
        let data = 8 + length;
        let fits = |Entry { data_offsets: (start, end), .. }: &Entry| start <= end && *end <= size - data;
        Ok(entries.values().all(fits).then_some(Self { file, data, entries }))
    }

    fn seek(&mut self, name: &str) -> io::Result<u64> {
        let (start, end) = self.entries[name].data_offsets;
        self.file.seek(SeekFrom::Start(self.data + start))?;
        Ok(end - start)
    }
}

/// `None`: they are equal.
fn compare(name: String, old: &mut Reader, new: &mut Reader) -> io::Result<Option<Tensor>> {
    let (a, b) = (&old.entries[&name], &new.entries[&name]);
    let elements = a.shape.iter().product();
    let mut tensor =
        Tensor { name, elements, differing: 0, largest_absolute: None, largest_relative: None, form: None };
    if a.dtype != b.dtype || a.shape != b.shape {
        tensor.form = Some(format!("{} {:?} → {} {:?}", a.dtype, a.shape, b.dtype, b.shape));
        tensor.differing = elements;
        return Ok(Some(tensor));
    }
    let (width, number) = element(&a.dtype);
    let (mut left, length) = (old.seek(&tensor.name)?, new.seek(&tensor.name)?);
    if left != length {
        tensor.differing = elements;
        return Ok(Some(tensor));
    }
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        old.file.read_exact(&mut a[..piece])?;
        new.file.read_exact(&mut b[..piece])?;
        if a[..piece] != b[..piece] {
            tensor.measure(&a[..piece], &b[..piece], width, number);
        }
        left -= piece as u64;
    }
    Ok((tensor.differing > 0).then_some(tensor))
}

impl Tensor {
    fn measure(&mut self, old: &[u8], new: &[u8], width: usize, number: Number) {
        for (old, new) in old.chunks(width).zip(new.chunks(width)).filter(|(old, new)| old != new) {
            self.differing += 1;
            let (Some(old), Some(new)) = (number(old), number(new)) else { continue };
            let (absolute, relative) = apart(old, new);
            if absolute.is_finite() {
                self.largest_absolute = Some(self.largest_absolute.unwrap_or(0.0).max(absolute));
                self.largest_relative = Some(self.largest_relative.unwrap_or(0.0).max(relative));
            }
        }
    }
}

/// What reads an element; none if that is no number.
type Number = fn(&[u8]) -> Option<f64>;

/// The bytes of an element, and what reads it.
fn element(dtype: &str) -> (usize, Number) {
    match dtype {
        "F64" => (8, |bytes| Some(f64::from_le_bytes(bytes.try_into().ok()?))),
        "F32" => (4, |bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?).into())),
        "BF16" => (2, |bytes| Some(f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().ok()?)) << 16).into())),
        "F16" => (2, |bytes| Some(half(u16::from_le_bytes(bytes.try_into().ok()?)))),
        #[expect(clippy::cast_precision_loss, reason = "the size of a difference")]
        "I64" => (8, |bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?) as f64)),
        #[expect(clippy::cast_precision_loss, reason = "the size of a difference")]
        "U64" => (8, |bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?) as f64)),
        "I32" => (4, |bytes| Some(i32::from_le_bytes(bytes.try_into().ok()?).into())),
        "U32" => (4, |bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?).into())),
        "I16" => (2, |bytes| Some(i16::from_le_bytes(bytes.try_into().ok()?).into())),
        "U16" => (2, |bytes| Some(u16::from_le_bytes(bytes.try_into().ok()?).into())),
        "I8" => (1, |bytes| Some(i8::from_le_bytes(bytes.try_into().ok()?).into())),
        "U8" | "BOOL" => (1, |bytes| bytes.first().map(|byte| (*byte).into())),
        _ => (1, |_| None),
    }
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

impl fmt::Display for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names in one line.
        const SHOWN: usize = 3;
        let Self { common, differing, removed, added } = self;
        let mut parts = Vec::new();
        if !differing.is_empty() {
            let mut worst: Vec<&Tensor> = differing.iter().collect();
            worst.sort_by(|a, b| {
                b.largest_absolute.unwrap_or(f64::MAX).total_cmp(&a.largest_absolute.unwrap_or(f64::MAX))
            });
            let names: Vec<String> = worst.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if differing.len() > SHOWN { ", …" } else { "" };
            parts.push(format!("{} of {common} tensors differ: {}{more}", differing.len(), names.join(", ")));
        }
        for (names, word) in [(removed, "gone"), (added, "new")] {
            if !names.is_empty() {
                parts.push(format!("{word}: {}", names.join(", ")));
            }
        }
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.name)?;
        match (&self.form, self.largest_absolute, self.largest_relative) {
            (Some(form), ..) => f.write_str(form),
            (None, Some(absolute), Some(relative)) => write!(
                f,
                "{} of {} by at most {absolute:.3e} ({relative:.3e} of their size)",
                self.differing, self.elements
            ),
            _ => write!(f, "{} of {}", self.differing, self.elements),
        }
    }
}
