//! Safetensors files side by side, tensor by tensor, read in pieces: weights may be larger than memory.

use super::values::apart;
use crate::tensors::{Header, header};
use serde::Serialize;
use std::collections::BTreeSet;
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

/// A file, opened, and where its tensors are.
struct Reader {
    file: File,
    header: Header,
}

/// Bytes that are compared at once; a multiple of all sizes of elements.
const PIECE: usize = 1 << 18;

/// Compares two files. `None`: one of them is no file of tensors.
pub(super) fn files(old: &Path, new: &Path) -> io::Result<Option<Tensors>> {
    let (Some(mut old), Some(mut new)) = (Reader::open(old)?, Reader::open(new)?) else { return Ok(None) };
    let mut tensors = Tensors::default();
    let names: BTreeSet<String> = old.header.tensors.keys().chain(new.header.tensors.keys()).cloned().collect();
    for name in names {
        match (old.header.tensors.contains_key(&name), new.header.tensors.contains_key(&name)) {
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
    /// `None`: it is no file of tensors, or a part of one.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let header = header(&mut file)?.ok().filter(|header| header.length <= size);
        Ok(header.map(|header| Self { file, header }))
    }

    fn seek(&mut self, name: &str) -> io::Result<u64> {
        let tensor = &self.header.tensors[name];
        self.file.seek(SeekFrom::Start(self.header.data + tensor.start))?;
        Ok(tensor.end - tensor.start)
    }
}

/// `None`: they are equal.
fn compare(name: String, old: &mut Reader, new: &mut Reader) -> io::Result<Option<Tensor>> {
    let (a, b) = (&old.header.tensors[&name], &new.header.tensors[&name]);
    let elements = a.elements;
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
