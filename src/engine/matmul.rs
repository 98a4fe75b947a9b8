//! The one matrix product of the engine, and its promise about bits.
//!
//! For row-major matrices each row of `a · b` has the same bits whether it is multiplied alone or among others, and with
//! any number of threads. Stock `gemm` does not promise that: it picks another kernel for one row, and another blocking
//! of the inner dimension for few rows. So the inner dimension is cut here, into blocks of a fixed length that are added
//! up in order, and a single row is multiplied as one of two.
//!
//! For a transposed `b`, or a transposed `a` (a gradient, whose inner dimension is the batch), the bits do not depend on
//! the number of threads; nothing is said about rows alone and among others.

use gemm::Parallelism;

/// Length of the blocks of the inner dimension. gemm never cuts one of this length further.
pub const INNER_BLOCK: usize = 512;

/// Multiplications below which threads cost more than they bring.
const WORTH_THREADS: usize = 1 << 17;

/// A matrix in memory: `rows × cols` numbers, each row's numbers `col_stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix that fills `data`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} × {cols} matrix");
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` numbers apart, from the start of `data` on.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "a {rows} × {cols} matrix in {} numbers", data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The same numbers, transposed.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }
}

/// A row-major matrix to write into.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A matrix that fills `data`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} × {cols} matrix");
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` numbers apart, from the start of `data` on.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(cols <= row_stride || rows <= 1, "rows overlap");
        assert!(fits(data.len(), rows, cols, row_stride), "a {rows} × {cols} matrix in {} numbers", data.len());
        Self { data, rows, cols, row_stride }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= len
}

/// What becomes of the numbers that stand in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are replaced.
    Set,
    /// The product is added to them.
    Add,
}

/// Who multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The threads of the current rayon pool, where the product is worth it.
    Pool,
    /// The caller alone: inside of work that is already spread over threads.
    Caller,
}

/// `out = scale · a · b`, or `out += scale · a · b`.
pub fn matmul(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, scale: f32, write: Write, threads: Threads) {
    assert_eq!((out.rows, out.cols, a.cols), (a.rows, b.cols, b.rows), "shapes of a product");
    if out.rows == 1 {
        multiply_single(out, a, b, scale, write, threads)
    } else {
        multiply(out, a, b, scale, write, threads)
    }
}

/// `a · b` for row-major `a` (`m × k`) and `b` (`k × n`) that fill their slices, into `out` (`m × n`).
pub fn product(out: &mut [f32], a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) {
    matmul(MatrixMut::new(out, m, n), Matrix::new(a, m, k), Matrix::new(b, k, n), 1.0, Write::Set, Threads::Pool);
}

/// One row, multiplied as the first of two, so that it takes the same way as one among many.
fn multiply_single(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, scale: f32, write: Write, threads: Threads) {
    let mut twice = vec![0.0; 2 * a.cols];
    for (index, value) in twice[..a.cols].iter_mut().enumerate() {
        *value = a.data[index * a.col_stride];
    }
    let mut result = vec![0.0; 2 * out.cols];
    let row = &mut out.data[..out.cols];
    result[..row.len()].copy_from_slice(row);
    let cols = out.cols;
    multiply(MatrixMut::new(&mut result, 2, cols), Matrix::new(&twice, 2, a.cols), b, scale, write, threads);
    row.copy_from_slice(&result[..cols]);
}

fn multiply(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, scale: f32, write: Write, threads: Threads) {
    let (m, n, k) = (out.rows, out.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    let parallel = threads == Threads::Pool && m * n * k >= WORTH_THREADS && rayon::current_num_threads() > 1;
    let parallelism = if parallel { Parallelism::Rayon(rayon::current_num_threads()) } else { Parallelism::None };
    if k == 0 && write == Write::Set {
        out.data.chunks_mut(out.row_stride).for_each(|row| row[..n].fill(0.0));
    }
    for begin in (0..k).step_by(INNER_BLOCK) {
        let block = INNER_BLOCK.min(k - begin);
        let add = begin > 0 || write == Write::Add;
        let (a_data, b_data) = (&a.data[begin * a.col_stride..], &b.data[begin * b.row_stride..]);
        #[expect(clippy::cast_possible_wrap, reason = "a slice is never longer than isize::MAX")]
        #[expect(unsafe_code, reason = "gemm takes pointers; constructors of the three matrices checked their bounds")]
        // SAFETY: rows, columns and strides were checked against the slices when the matrices were made, `begin + block`
        // is at most `k`, and `out` is borrowed mutably, so it overlaps neither `a` nor `b`.
        unsafe {
            gemm::gemm(
                m,
                n,
                block,
                out.data.as_mut_ptr(),
                1,
                out.row_stride as isize,
                add,
                a_data.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b_data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                1.0,
                scale,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -0.5 and 0.5 from a xorshift generator.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        // Inner dimensions around the block's length and beyond where stock gemm differs (1,376), LoRA's narrow sides,
        // widths that no vector register divides.
        for (k, n) in [(3, 7), (32, 32), (64, 172), (129, 65), (512, 8), (600, 8), (1376, 8), (1376, 512), (2048, 130)]
        {
            let (a, b) = (numbers(80 * k, 7), numbers(k * n, 11));
            let run = |rows: usize, threads: usize| {
                let mut out = vec![0.0; rows * n];
                with_threads(threads, || product(&mut out, &a[..rows * k], &b, (rows, k, n)));
                bits(&out)
            };
            let all = run(80, 1);
            for rows in [1, 2, 3, 7, 8, 16, 31, 33, 64, 65, 80] {
                for threads in [1, 2] {
                    assert!(run(rows, threads) == all[..rows * n], "{rows} rows, k {k}, n {n}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn strides_transposes_and_sums_are_what_they_say() {
        let (m, k, n) = (5, 700, 6);
        let (a, b) = (numbers(m * 1000, 3), numbers(n * k, 5));
        for rows in [1, m] {
            let mut out = vec![2.0f32; m * 9];
            let (left, right) = (Matrix::strided(&a, rows, k, 1000), Matrix::new(&b, n, k).t());
            matmul(MatrixMut::strided(&mut out, rows, n, 9), left, right, 0.5, Write::Add, Threads::Caller);
            for row in 0..m {
                for column in 0..9 {
                    let product: f64 =
                        (0..k).map(|i| f64::from(a[row * 1000 + i]) * f64::from(b[column % n * k + i])).sum();
                    let expected = if row < rows && column < n { 2.0 + 0.5 * product } else { 2.0 };
                    // 700 products of at most 1/4 in f32: an error of 1e-4 would be far above rounding.
                    assert!((f64::from(out[row * 9 + column]) - expected).abs() < 1e-4, "({row}, {column})");
                }
            }
        }
    }
}
