//! The arithmetic of rows, in the widest registers that every processor of today has.
//!
//! Products and sums are never fused, and the order of sums is fixed by a row's length: so the bits of a row do not depend
//! on its neighbours, on threads, or on which of the two compilations runs.

use crate::engine::activation::Activation;
use crate::engine::kernels::{self, NormKind};

/// A function compiled twice: for AVX2, where the processor has it, and for any.
macro_rules! compiled_twice {
    ($(#[$about:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$about])*
        pub(super) fn $name($($argument: $type),*) {
            #[inline(always)]
            fn anywhere($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn with_avx2($($argument: $type),*) {
                anywhere($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "the compiler does not know that the processor was asked")]
                // SAFETY: the processor has AVX2.
                return unsafe { with_avx2($($argument),*) };
            }
            anywhere($($argument),*);
        }
    };
}

/// A norm of tokens' vectors.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub eps: f32,
}

compiled_twice! {
    /// Normalises every row of `rows`, to which `bias` is added before (nothing, where that is empty).
    fn normalize(rows: &mut [f32], bias: &[f32], norm: &Norm) {
        let width = norm.weight.len();
        let mut sum = vec![0.0; width];
        for row in rows.chunks_exact_mut(width) {
            sum.copy_from_slice(row);
            sum.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            NormKind::Layer { bias: true }.apply(row, &sum, &norm.weight, norm.eps);
            row.iter_mut().zip(&norm.bias).for_each(|(value, bias)| *value += bias);
        }
    }
}

compiled_twice! {
    /// Adds `bias` to every row and puts it through the activation.
    fn activate(rows: &mut [f32], bias: &[f32], activation: Activation) {
        let mut sum = vec![0.0; bias.len()];
        for row in rows.chunks_exact_mut(bias.len()) {
            sum.iter_mut().zip(&*row).zip(bias).for_each(|((sum, value), bias)| *sum = value + bias);
            activation.apply(row, &sum);
        }
    }
}

compiled_twice! {
    /// Adds `bias` to every row.
    fn add(rows: &mut [f32], bias: &[f32]) {
        kernels::add_to_rows(rows, bias);
    }
}

compiled_twice! {
    /// Multiplies every number, and makes weights that sum to one of every row.
    fn softmax(rows: &mut [f32], width: usize, scale: f32) {
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().for_each(|value| *value *= scale);
            kernels::softmax(row);
        }
    }
}
