//! Every operation's gradient against central differences, and what rows and threads must not change.

use super::*;
use crate::engine::activation::Activation;
use crate::engine::held::{Held, Precision};
use crate::engine::kernels::NormKind;
use crate::engine::model::{Alibi, Order, Pairing, Rotary};
use crate::engine::positions::{Fading, Rope};
use crate::random::Random;
use candle_core::{Device, Var};
use std::sync::Arc;

fn var(rows: usize, cols: usize, seed: u64) -> Var {
    let random = Random::new(seed, "test");
    let values: Vec<f32> = (0..(rows * cols) as u64).map(|index| random.normal(index) as f32 * 0.5).collect();
    Var::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Compares the gradients of `Σ f(vars) · weights` with central differences.
fn assert_gradients(vars: &[Var], f: impl Fn(&[Var]) -> Result<Tensor>) {
    let shape = f(vars).unwrap().shape().clone();
    let weights = var(shape.elem_count(), 1, 99).reshape(&shape).unwrap();
    let loss = |vars: &[Var]| (f(vars)? * &weights)?.sum_all();
    let grads = loss(vars).unwrap().backward().unwrap();
    let step = 1e-2f32;
    for (number, var) in vars.iter().enumerate() {
        let grad = numbers(grads.get(var).unwrap_or_else(|| panic!("argument {number} has no gradient")));
        let values = numbers(var);
        for index in 0..values.len() {
            let at = |offset: f32| {
                let mut moved = values.clone();
                moved[index] += offset;
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                f64::from(loss(vars).unwrap().to_scalar::<f32>().unwrap())
            };
            let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
            var.set(&Tensor::from_vec(values.clone(), var.shape(), &Device::Cpu).unwrap()).unwrap();
            // f32 sums of a few dozen numbers around 1, divided by 0.02: rounding alone gives up to about 1e-3.
            let error = (f64::from(grad[index]) - slope).abs();
            assert!(error < 3e-3 * slope.abs().max(1.0), "argument {number}, {index}: {} is not {slope}", grad[index]);
        }
    }
}

fn attention(offsets: &[usize]) -> Attention {
    let rotary = Rotary { frequencies: vec![1.0, 0.01], factor: 1.0, pairing: Pairing::Halves };
    Attention {
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        offsets: Arc::new(offsets.to_vec()),
        scale: 0.5,
        cap: None,
        window: None,
        rope: Some(Arc::new(Rope::new(&rotary, 4, 200))),
        fading: None,
    }
}

#[test]
fn gradients_are_the_slopes() {
    let held = |precision| Arc::new(Held::new(Arc::new(numbers(&var(6, 5, 1))), 6, 5, precision));
    let weight = held(Precision::F32);
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Nf4] {
        assert_gradients(&[var(4, 6, 2)], |x| x[0].apply_op1(FrozenLinear { weight: held(precision), bias: None }));
    }
    for dropout in [None, Some(0.5)] {
        let tokens: Vec<Random> = (0..4).map(|token| Random::new(5, "dropout").part(token)).collect();
        assert_gradients(&[var(4, 6, 2), var(3, 6, 3), var(5, 3, 4)], |x| {
            let dropout = dropout.map(|share| Dropout { share, tokens: tokens.clone() });
            x[0].apply_op3(&x[1], &x[2], LoraLinear { weight: weight.clone(), bias: None, scale: 0.7, dropout })
        });
    }
    let dropout =
        Arc::new(Dropout { share: 0.5, tokens: (0..4).map(|token| Random::new(5, "d").part(token)).collect() });
    for rest in [false, true] {
        assert_gradients(&[var(4, 6, 2)], |x| x[0].apply_op1(Split { dropout: dropout.clone(), rest }));
    }
    assert_gradients(&[var(4, 6, 2), var(1, 6, 3)], |x| {
        let bias = Some(Arc::new(numbers(&var(1, 6, 4))));
        x[0].apply_op2(&x[1].flatten_all()?, Magnitude { norms: vec![0.5, 0.8, 1.0, 1.5, 2.0, 3.0], bias })
    });
    assert_gradients(&[var(4, 6, 2), var(6, 5, 3)], |x| x[0].apply_op2(&x[1], TrainedLinear { transposed: false }));
    assert_gradients(&[var(4, 6, 2), var(5, 6, 3)], |x| x[0].apply_op2(&x[1], TrainedLinear { transposed: true }));
    for kind in [NormKind::Rms, NormKind::RmsPlusOne, NormKind::Layer { bias: true }] {
        let norm = Norm { kind, eps: 1e-5 };
        // Whole tokens, and heads of three numbers.
        for width in [6, 3] {
            assert_gradients(&[var(4, 6, 2), var(1, width, 3)], |x| {
                x[0].apply_op2(&x[1].flatten_all()?, TrainedNorm(norm))
            });
            let factors = Arc::new(numbers(&var(1, width, 1)));
            assert_gradients(&[var(4, 6, 2)], |x| {
                x[0].apply_op1(FrozenNorm { norm, factors: factors.clone(), bias: Some(factors.clone()) })
            });
        }
    }
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        assert_gradients(&[var(4, 6, 2)], |x| x[0].apply_op1(Activate(activation)));
        assert_gradients(&[var(4, 6, 2), var(4, 6, 3)], |x| x[0].apply_op2(&x[1], Gated(activation)));
        assert_gradients(&[var(4, 6, 2)], |x| x[0].apply_op1(GatedFused(activation)));
    }
    assert_gradients(&[var(4, 6, 2), var(1, 6, 3)], |x| x[0].apply_op2(&x[1].flatten_all()?, AddBias));
    assert_gradients(&[var(4, 6, 2)], |x| x[0].apply_op1(Scale(1.5)));
    assert_gradients(&[var(4, 6, 2), var(4, 6, 3)], |x| x[0].apply_op2(&x[1], Add));
    let ids = Arc::new(vec![2, 0, 2, 1]);
    assert_gradients(&[var(3, 5, 2)], |x| x[0].apply_op1(Lookup { ids: ids.clone() }));
    let rows = Arc::new(vec![3, 1]);
    assert_gradients(&[var(4, 5, 2)], |x| x[0].apply_op1(SelectRows { rows: rows.clone() }));
    let labels = Arc::new(vec![2, 0, 4, 4]);
    assert_gradients(&[var(4, 5, 2)], |x| x[0].apply_op1(CrossEntropy { labels: labels.clone(), scale: 0.25 }));
    assert_gradients(&[var(7, 16, 2), var(7, 8, 3), var(7, 8, 4)], |x| {
        x[0].apply_op3(&x[1], &x[2], attention(&[0, 1, 5, 7]))
    });
    let capped = Attention { cap: Some(0.8), ..attention(&[0, 1, 5, 7]) };
    assert_gradients(&[var(7, 16, 2), var(7, 8, 3), var(7, 8, 4)], |x| x[0].apply_op3(&x[1], &x[2], capped.clone()));
    assert_gradients(&[var(4, 6, 2)], |x| x[0].apply_op1(SoftCap(0.6)));
    let alibi = Alibi { slopes: vec![0.5, 0.25, 0.125, 0.1], rounded: false, scale: 1.0 };
    let attention = Attention {
        window: Some(2),
        rope: None,
        fading: Some(Arc::new(Fading::new(&alibi, 7))),
        ..attention(&[0, 1, 5, 7])
    };
    assert_gradients(&[var(7, 16, 2), var(7, 8, 3), var(7, 8, 4)], |x| x[0].apply_op3(&x[1], &x[2], attention.clone()));
    for order in [Order::Parts, Order::Groups] {
        assert_gradients(&[var(7, 32, 2)], |x| x[0].apply_op1(FusedAttention { attention: attention.clone(), order }));
    }
}

#[test]
fn attention_sees_its_own_row_up_to_its_own_position() {
    // Longer than one block of queries, so that borders between blocks are crossed.
    let (q, k, v) = (var(150, 16, 2), var(150, 8, 3), var(150, 8, 4));
    let run = |q: &Tensor, k: &Tensor, v: &Tensor, offsets: &[usize]| {
        numbers(&q.apply_op3(k, v, attention(offsets)).unwrap())
    };
    let part = |x: &Tensor, from: usize, to: usize| x.narrow(0, from, to - from).unwrap().copy().unwrap();
    let together = run(&q, &k, &v, &[0, 20, 150]);
    for (from, to) in [(0, 20), (20, 150)] {
        let alone = run(&part(&q, from, to), &part(&k, from, to), &part(&v, from, to), &[0, to - from]);
        assert_eq!(alone, together[from * 16..to * 16]);
    }
    // Without its last 40 tokens, the others see nothing else. (Blocks of queries end elsewhere: rounding differs.)
    let shorter = run(&part(&q, 20, 110), &part(&k, 20, 110), &part(&v, 20, 110), &[0, 90]);
    for (shorter, together) in shorter.iter().zip(&together[20 * 16..]) {
        assert!((shorter - together).abs() < 1e-6);
    }
}

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() {
    let tokens: Vec<Random> = (0..100).map(|token| Random::new(5, "dropout").part(token)).collect();
    let weight = Arc::new(Held::new(Arc::new(vec![0.0; 101]), 101, 1, Precision::F32));
    let x = Tensor::ones((100, 101), candle_core::DType::F32, &Device::Cpu).unwrap();
    let a = Tensor::ones((1, 101), candle_core::DType::F32, &Device::Cpu).unwrap();
    let b = Tensor::ones((1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
    let op = LoraLinear { weight, bias: None, scale: 1.0, dropout: Some(Dropout { share: 0.3, tokens }) };
    let sums = numbers(&x.apply_op3(&a, &b, op).unwrap());
    let mean = sums.iter().sum::<f32>() / 10_100.0;
    // Three standard errors of 10,100 draws: 3 · sqrt(0.3 · 0.7 / 10,100) / 0.7 = 0.02.
    assert!((mean - 1.0).abs() < 0.02, "{mean}");
    assert!(sums.windows(2).any(|pair| pair[0] != pair[1]), "every token drops the same");
}

#[test]
fn a_frozen_gated_layer_has_the_bits_of_its_single_steps() {
    let held = |rows: usize, cols: usize, seed| {
        Arc::new(Held::new(Arc::new(numbers(&var(rows, cols, seed))), rows, cols, Precision::F32))
    };
    let [gate, up, down] = [held(6, 10, 1), held(6, 10, 2), held(10, 6, 3)];
    let weights = var(5, 6, 4);
    let run = |f: &dyn Fn(&Tensor) -> Result<Tensor>| {
        let x = var(5, 6, 5);
        let y = f(&x).unwrap();
        let loss = (&y * &*weights).unwrap().sum_all().unwrap();
        // A second backward pass finds nothing that was kept.
        let grads = [(); 2].map(|()| numbers(loss.backward().unwrap().get(&x).unwrap()));
        assert_eq!(grads[0], grads[1]);
        (numbers(&y), grads)
    };
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let linear = |weight: &Arc<Held>| FrozenLinear { weight: weight.clone(), bias: None };
        let steps = run(&|x| {
            let (gate, up) = (x.apply_op1(linear(&gate))?, x.apply_op1(linear(&up))?);
            gate.apply_op2(&up, Gated(activation))?.apply_op1(linear(&down))
        });
        let whole = run(&|x| x.apply_op1(FrozenGated::new([&gate, &up, &down], activation)));
        assert_eq!(whole, steps);
    }
}
