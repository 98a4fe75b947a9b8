//! Frozen matrices, held in fewer bits than they are multiplied in.
//!
//! They are made f32 again a block of rows at a time, on the way into the product: the same bits as if the whole matrix
//! had been made f32 first, for the memory of one block. Knows nothing of models.

use super::matmul::{INNER_BLOCK, Matrix, MatrixMut, Threads, Write, matmul};
use super::weights::transpose;
use half::bf16;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// How a frozen matrix is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As it is multiplied.
    #[default]
    F32,
    /// Rounded to the nearest bfloat16, to an even last bit where two are as near.
    Bf16,
    /// Whole numbers from -127 to 127, and for each output the largest weight's size divided by 127.
    Int8,
    /// The 16 levels of NF4 (arXiv 2305.14314), and the largest weight's size for each 64 weights in a row, counted
    /// through the matrix as files have it (`outputs × inputs`), as bitsandbytes does. The sizes stay f32.
    Nf4,
}

/// Weights of NF4 that share a scale.
pub(super) const NF4_BLOCK: usize = 64;

/// Numbers that are worth a task of their own.
const TASK: usize = 1 << 14;

/// The levels of NF4: quantiles of the normal distribution, scaled to end at 1.
pub(super) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A frozen matrix of `inputs × outputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    inputs: usize,
    outputs: usize,
    numbers: Numbers,
}

/// How they are held.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    F32(Arc<Vec<f32>>),
    /// As their bits.
    Bf16(Vec<u16>),
    Int8 {
        codes: Vec<i8>,
        /// By output.
        scales: Vec<f32>,
    },
    Nf4 {
        /// Two to a byte, the first in the lower half; a row of odd length ends with half a byte of nothing.
        codes: Vec<u8>,
        /// By block of the transposed matrix.
        scales: Vec<f32>,
    },
}

impl Held {
    /// Holds a row-major `inputs × outputs` matrix.
    pub fn new(weight: Arc<Vec<f32>>, inputs: usize, outputs: usize, precision: Precision) -> Self {
        assert_eq!(weight.len(), inputs * outputs, "a {inputs} × {outputs} matrix");
        let numbers = match precision {
            Precision::F32 => Numbers::F32(weight),
            Precision::Bf16 => {
                let bits = weight.par_iter().with_min_len(TASK).map(|weight| bf16::from_f32(*weight).to_bits());
                Numbers::Bf16(bits.collect())
            }
            Precision::Int8 => int8(&weight, outputs),
            Precision::Nf4 => nf4(&weight, inputs, outputs),
        };
        Self { inputs, outputs, numbers }
    }

    /// Width of what it is multiplied by.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Width of the product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Its numbers as they are held.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Bytes of its numbers.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::F32(weight) => 4 * weight.len(),
            Numbers::Bf16(weight) => 2 * weight.len(),
            Numbers::Int8 { codes, scales } => codes.len() + 4 * scales.len(),
            Numbers::Nf4 { codes, scales } => codes.len() + 4 * scales.len(),
        }
    }

    /// Some rows as they are multiplied: `rows × outputs`.
    pub fn rows(&self, rows: Range<usize>) -> Cow<'_, [f32]> {
        let n = self.outputs;
        if let Numbers::F32(weight) = &self.numbers {
            return weight[rows.start * n..rows.end * n].into();
        }
        let mut out = vec![0.0; rows.len() * n];
        out.par_chunks_mut(n.max(1)).zip(rows).with_min_len(16).for_each(|(out, row)| self.row(row, out));
        out.into()
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        let n = self.outputs;
        match &self.numbers {
            Numbers::F32(weight) => out.copy_from_slice(&weight[row * n..][..n]),
            Numbers::Bf16(weight) => {
                for (out, bits) in out.iter_mut().zip(&weight[row * n..]) {
                    *out = f32::from_bits(u32::from(*bits) << 16);
                }
            }
            Numbers::Int8 { codes, scales } => {
                for ((out, code), scale) in out.iter_mut().zip(&codes[row * n..]).zip(scales) {
                    *out = f32::from(*code) * scale;
                }
            }
            Numbers::Nf4 { codes, scales } => {
                let codes = &codes[row * n.div_ceil(2)..];
                for (place, out) in out.iter_mut().enumerate() {
                    let level = NF4[usize::from(codes[place / 2] >> (4 * (place % 2)) & 15)];
                    *out = level * scales[(place * self.inputs + row) / NF4_BLOCK];
                }
            }
        }
    }

    /// Blocks of rows, as the matrix product cuts its inner dimension.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let inputs = self.inputs;
        // What is f32 already is one block: the product cuts it.
        let step = if matches!(self.numbers, Numbers::F32(_)) { inputs.max(1) } else { INNER_BLOCK };
        (0..inputs).step_by(step).map(move |begin| begin..(begin + step).min(inputs))
    }

    /// `out (+)= x · W`, for rows of `x` that are `inputs` wide.
    pub fn apply(&self, out: &mut [f32], x: &[f32], write: Write) {
        self.apply_to(out, self.outputs, x, write);
    }

    /// The same into rows that begin `stride` numbers apart.
    pub fn apply_to(&self, out: &mut [f32], stride: usize, x: &[f32], write: Write) {
        let (k, n) = (self.inputs, self.outputs);
        let m = x.len() / k;
        for block in self.blocks().filter(|_| m > 0) {
            let write = if block.start == 0 { write } else { Write::Add };
            let (rows, len) = (self.rows(block.clone()), block.len());
            let (x, rows) = (Matrix::strided(&x[block.start..], m, len, k), Matrix::new(&rows, len, n));
            matmul(MatrixMut::strided(out, m, n, stride), x, rows, 1.0, write, Threads::Pool);
        }
    }

    /// `dx (+)= grad · Wᵀ`, for rows of `grad` that are `outputs` wide.
    pub fn apply_back(&self, dx: &mut [f32], grad: &[f32], write: Write) {
        let (k, n) = (self.inputs, self.outputs);
        let m = grad.len() / n;
        for block in self.blocks().filter(|_| m > 0) {
            let (rows, len) = (self.rows(block.clone()), block.len());
            let (grad, rows) = (Matrix::new(grad, m, n), Matrix::new(&rows, len, n));
            let out = MatrixMut::strided(&mut dx[block.start..], m, len, k);
            matmul(out, grad, rows.t(), 1.0, write, Threads::Pool);
        }
    }

    /// The Euclidean norm of every output's weights, with `scale · B · A` added to them: A is `r × inputs`, B
    /// `outputs × r`.
    #[expect(clippy::cast_possible_truncation, reason = "norms are kept as f32, like the weights")]
    pub fn norms_with(&self, a: &[f32], b: &[f32], r: usize, scale: f32) -> Vec<f32> {
        let (k, n) = (self.inputs, self.outputs);
        let mut squares = vec![0.0f64; n];
        for begin in (0..k).step_by(INNER_BLOCK) {
            let end = (begin + INNER_BLOCK).min(k);
            let mut rows = self.rows(begin..end).into_owned();
            let a = Matrix::strided(&a[begin..], r, end - begin, k).t();
            matmul(
                MatrixMut::new(&mut rows, end - begin, n),
                a,
                Matrix::new(b, n, r).t(),
                scale,
                Write::Add,
                Threads::Pool,
            );
            for row in rows.chunks_exact(n) {
                squares.iter_mut().zip(row).for_each(|(square, x)| *square += f64::from(*x) * f64::from(*x));
            }
        }
        squares.into_iter().map(|square| square.sqrt() as f32).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a weight divided by its scale is at most 127")]
fn int8(weight: &[f32], outputs: usize) -> Numbers {
    let none = || vec![0.0f32; outputs];
    let larger = |mut sizes: Vec<f32>, row: &[f32]| {
        sizes.iter_mut().zip(row).for_each(|(size, weight)| *size = size.max(weight.abs()));
        sizes
    };
    // The largest of several numbers is the same in any order.
    let rows = weight.par_chunks_exact(outputs).with_min_len(64);
    let mut scales = rows.fold(none, larger).reduce(none, |sizes, others| larger(sizes, &others));
    scales.iter_mut().for_each(|scale| *scale /= 127.0);
    let code = |(weight, scale): (&f32, &f32)| if *scale > 0.0 { (weight / scale).round_ties_even() as i8 } else { 0 };
    let mut codes = vec![0; weight.len()];
    let rows = codes.par_chunks_exact_mut(outputs).zip(weight.par_chunks_exact(outputs)).with_min_len(16);
    rows.for_each(|(codes, row)| codes.iter_mut().zip(row.iter().zip(&scales)).for_each(|(to, pair)| *to = code(pair)));
    Numbers::Int8 { codes, scales }
}

fn nf4(weight: &[f32], inputs: usize, outputs: usize) -> Numbers {
    let as_filed = transpose(weight, inputs, outputs);
    let size = |block: &[f32]| block.iter().fold(0.0f32, |size, weight| size.max(weight.abs()));
    let scales: Vec<f32> = as_filed.par_chunks(NF4_BLOCK).with_min_len(64).map(size).collect();
    let width = outputs.div_ceil(2);
    let mut codes = vec![0; inputs * width];
    let rows = codes.par_chunks_exact_mut(width).zip(weight.par_chunks_exact(outputs)).enumerate();
    rows.with_min_len(16).for_each(|(row, (codes, weights))| {
        for (place, weight) in weights.iter().enumerate() {
            let scale = scales[(place * inputs + row) / NF4_BLOCK];
            codes[place / 2] |= nearest(weight * (1.0 / scale)) << (4 * (place % 2));
        }
    });
    Numbers::Nf4 { codes, scales }
}

/// The number of the nearest level; that of 0 for what is no number (a block of zeros).
fn nearest(x: f32) -> u8 {
    if x.is_nan() {
        return 7;
    }
    NF4.windows(2).map(|levels| u8::from(x > 0.5 * (levels[0] + levels[1]))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::weights::Weights;
    use crate::random::Random;

    const ALL: [Precision; 4] = [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Nf4];

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let random = Random::new(seed, "held");
        (0..count as u64).map(|index| random.normal(index) as f32 * 0.1).collect()
    }

    fn hold(weight: &[f32], inputs: usize, outputs: usize, precision: Precision) -> Held {
        Held::new(Arc::new(weight.to_vec()), inputs, outputs, precision)
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// Beyond one block of rows, with an odd width, and blocks of NF4 that reach over the borders of outputs.
    const SHAPES: [(usize, usize); 4] = [(1100, 70), (512, 33), (30, 7), (64, 64)];

    #[test]
    fn products_are_those_of_the_matrix_made_f32_first() {
        for (inputs, outputs) in SHAPES {
            let weight = numbers(inputs * outputs, 1);
            for precision in ALL {
                let held = hold(&weight, inputs, outputs, precision);
                let whole = held.rows(0..inputs);
                for m in [1, 5] {
                    let (x, grad) = (numbers(m * inputs, 2), numbers(m * outputs, 3));
                    let (mut y, mut expected) = (vec![1.0; m * outputs], vec![1.0; m * outputs]);
                    held.apply(&mut y, &x, Write::Add);
                    let right = Matrix::new(&whole, inputs, outputs);
                    let out = MatrixMut::new(&mut expected, m, outputs);
                    matmul(out, Matrix::new(&x, m, inputs), right, 1.0, Write::Add, Threads::Pool);
                    assert!(bits(&y) == bits(&expected), "{precision:?} {inputs} × {outputs}, {m} rows");

                    let (mut dx, mut expected) = (vec![7.0; m * inputs], vec![0.0; m * inputs]);
                    held.apply_back(&mut dx, &grad, Write::Set);
                    let out = MatrixMut::new(&mut expected, m, inputs);
                    matmul(out, Matrix::new(&grad, m, outputs), right.t(), 1.0, Write::Set, Threads::Pool);
                    let error = dx.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    // Sums of up to 70 products of size 0.01: other kernels round by less than 1e-7.
                    assert!(error < 1e-6, "{precision:?} {inputs} × {outputs}, {m} rows: {error}");
                }
            }
        }
    }

    #[test]
    fn weights_are_as_near_as_their_bits_allow() {
        for (inputs, outputs) in SHAPES {
            let weight = numbers(inputs * outputs, 1);
            let as_filed = transpose(&weight, inputs, outputs);
            for precision in ALL {
                let held = hold(&weight, inputs, outputs, precision).rows(0..inputs).into_owned();
                for (index, (was, is)) in weight.iter().zip(&held).enumerate() {
                    let (row, output) = (index / outputs, index % outputs);
                    let largest = |of: &[f32]| of.iter().fold(0.0f32, |size, x| size.max(x.abs()));
                    let limit = match precision {
                        Precision::F32 => 0.0,
                        // Half a unit of eight bits.
                        Precision::Bf16 => was.abs() / 256.0,
                        Precision::Int8 => largest(&as_filed[output * inputs..][..inputs]) / 127.0 * 0.5001,
                        // Half of the widest gap between two levels.
                        Precision::Nf4 => {
                            let block = (output * inputs + row) / NF4_BLOCK * NF4_BLOCK;
                            let end = (block + NF4_BLOCK).min(as_filed.len());
                            largest(&as_filed[block..end]) * 0.152
                        }
                    };
                    assert!((was - is).abs() <= limit, "{precision:?}: {was} became {is}");
                }
            }
        }
    }

    /// Made by `tests/references/make_adapter_references.py`.
    #[test]
    fn few_bits_are_those_of_bitsandbytes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/engine/adapters/quantised.safetensors");
        let mut file = Weights::open(&[path.into()]).unwrap();
        let mut matrix = |name: &str| transpose(&file.take(name, &[24, 128]).unwrap(), 24, 128);
        let weight = matrix("weight");
        for (precision, name) in [(Precision::Nf4, "nf4"), (Precision::Int8, "int8")] {
            for (is, expected) in hold(&weight, 128, 24, precision).rows(0..128).iter().zip(matrix(name)) {
                // A step between two levels is at least a hundred times as much.
                assert!((is - expected).abs() < 1e-6, "{name}: {is} is not {expected}");
            }
        }
    }

    #[test]
    fn a_matrix_takes_the_bytes_that_it_says() {
        let weight = numbers(128 * 64, 1);
        let bytes = ALL.map(|precision| hold(&weight, 128, 64, precision).bytes());
        assert_eq!(bytes, [4 * 8192, 2 * 8192, 8192 + 4 * 64, 4096 + 4 * 128]);
    }

    #[test]
    fn what_has_no_size_stays_nothing() {
        for precision in ALL {
            let held = hold(&[0.0; 6 * 4], 6, 4, precision);
            assert_eq!(*held.rows(0..6), [0.0; 24], "{precision:?}");
        }
    }

    #[test]
    fn bfloat16_rounds_to_the_nearest_and_to_even() {
        let held = hold(&[1.0, 1.003_906_2, 1.011_718_7, -3.0e38], 2, 2, Precision::Bf16);
        assert_eq!(*held.rows(0..2), [1.0, 1.0, 1.015_625, f32::from_bits(0xFF62_0000)]);
    }

    #[test]
    fn norms_are_those_of_the_sum() {
        let (inputs, outputs, r) = (600, 5, 3);
        let weight = numbers(inputs * outputs, 1);
        let (a, b) = (numbers(r * inputs, 2), numbers(outputs * r, 3));
        let norms = hold(&weight, inputs, outputs, Precision::F32).norms_with(&a, &b, r, 0.7);
        for output in 0..outputs {
            let square = |input: usize| {
                let added: f64 = (0..r).map(|i| f64::from(a[i * inputs + input]) * f64::from(b[output * r + i])).sum();
                (f64::from(weight[input * outputs + output]) + 0.7 * added).powi(2)
            };
            let expected = (0..inputs).map(square).sum::<f64>().sqrt();
            assert!((f64::from(norms[output]) / expected - 1.0).abs() < 1e-6, "{} is not {expected}", norms[output]);
        }
    }
}
