//! Plain operations against those of our own, and against PEFT: on the processor, where both can be had.

use super::adapters::Case;
use super::*;
use crate::engine::held::Precision;
use crate::engine::model::HeldLinear;

/// On the processor; with `TITER_TEST_DEVICE=card` on the card, for `benches/gpu.sh`.
pub(super) fn plain(dtype: DType) -> Plain {
    let card = || crate::engine::plain::device::card().expect("TITER_TEST_DEVICE is set, and there is no card");
    let device = if std::env::var_os("TITER_TEST_DEVICE").is_some() { card() } else { Device::Cpu };
    Plain { device, dtype }
}

/// The golden rows, each two tokens shorter than the one before, so that attention has something to pad.
fn uneven(examples: &[Example]) -> Batch {
    let rows: Vec<Example> = examples
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let ids = row.ids[..row.ids.len() - 2 * index].to_vec();
            Example { ids, counted: row.counted.clone() }
        })
        .collect();
    Batch::new((5..).zip(&rows))
}

/// How far the losses are apart (of their size), and which gradient is the farthest off (of its largest number).
fn apart<S: Arithmetic, T: Arithmetic>(a: &Graph<S>, b: &Graph<T>, batch: &Batch) -> (f64, (f32, String)) {
    let scale = 1.0 / batch.labels.len() as f64;
    let ((loss_a, grads_a), (loss_b, grads_b)) = (gradients(a, batch, scale, 3), gradients(b, batch, scale, 3));
    let mut worst = (0.0, String::new());
    assert!(grads_a.len() == grads_b.len() && !grads_a.is_empty());
    // A gradient that is zero but for rounding (a key's bias) is compared with the others.
    let size = |grad: &[f32]| grad.iter().fold(0.0f32, |size, x| size.max(x.abs()));
    let all = grads_b.iter().map(|grad| size(grad)).fold(0.0, f32::max);
    for ((parameter, a), b) in a.parameters().iter().zip(&grads_a).zip(&grads_b) {
        let error = distance(a, b) / size(b).max(1e-3 * all);
        if error.is_nan() || error > worst.0 {
            worst = (error, parameter.name.clone());
        }
    }
    ((f64::from(loss_a) / f64::from(loss_b) - 1.0).abs(), worst)
}

fn assert_near<S: Arithmetic, T: Arithmetic>(
    (a, b): (&Graph<S>, &Graph<T>),
    batch: &Batch,
    (of_loss, of_gradient): (f64, f32),
    what: &str,
) {
    let (loss, (gradient, name)) = apart(a, b, batch);
    assert!(loss <= of_loss, "{what}: the losses are {loss:.1e} apart");
    assert!(gradient <= of_gradient, "{what}: the gradients of {name} are {gradient:.1e} apart");
}

/// The same sums in another order: a few units of 6e-8 each, which small gradients between large ones see more of.
const ORDER: (f64, f32) = (1e-5, 2e-4);

#[test]
fn every_family_learns_the_same_by_both_operations() {
    for golden in families::all() {
        let name = golden.folder.display().to_string();
        let (model, batch) = (golden.model(), uneven(&golden.examples()));
        let whole = (Graph::whole_by(plain(DType::F32), model.clone()).unwrap(), Graph::whole(model.clone()).unwrap());
        assert_near((&whole.0, &whole.1), &batch, ORDER, &name);
        let settings = AdapterConfig { dropout: 0.2, ..golden.adapter().config };
        let adapter = || Adapter { config: settings.clone(), ..golden.adapter() };
        let fused = Graph::with_adapter(&model, adapter(), 7).unwrap();
        let of = |dtype| Graph::with_adapter_by(plain(dtype), &model, adapter(), 7).unwrap();
        assert_near((&of(DType::F32), &fused), &batch, ORDER, &name);
        // 11 bits: half a unit is 5e-4, of every number on the way; gradients add up many of them, and ReLU lets another
        // number through here and there.
        assert_near((&of(DType::F16), &fused), &batch, (5e-3, 0.2), &format!("{name} in f16"));
        let evaluated = |loss: Tensor| f64::from(loss.to_scalar::<f32>().unwrap());
        let (a, b) = (of(DType::F32).loss(&batch, 1.0, None).unwrap(), fused.loss(&batch, 1.0, None).unwrap());
        assert!((evaluated(a) / evaluated(b) - 1.0).abs() < ORDER.0, "{name}");
    }
}

#[test]
fn every_setting_of_an_adapter_learns_the_same_by_both_operations() {
    for case in Case::all() {
        for dropout in [0.0, 0.3] {
            let settings = AdapterConfig { dropout, ..case.adapter().config };
            let adapter = || Adapter { config: settings.clone(), ..case.adapter() };
            let plain = Graph::with_adapter_by(plain(DType::F32), &case.model(), adapter(), 7).unwrap();
            let fused = Graph::with_adapter(&case.model(), adapter(), 7).unwrap();
            assert_near((&plain, &fused), &uneven(&case.examples()), ORDER, &case.name());
        }
    }
}

#[test]
fn matrices_in_few_bits_are_the_same_numbers_on_a_device() {
    let (golden, mut bytes) = (Golden::llama(), Vec::new());
    for precision in [Precision::Bf16, Precision::Int8, Precision::Nf4] {
        let held = || Model::<HeldLinear>::load_held(&[&golden.folder], precision).unwrap();
        let plain = Graph::with_adapter_by(plain(DType::F32), held(), golden.adapter(), 7).unwrap();
        let fused = Graph::with_adapter(held(), golden.adapter(), 7).unwrap();
        assert_near((&plain, &fused), &uneven(&golden.examples()), ORDER, &format!("{precision:?}"));
        bytes.push(plain.frozen_bytes());
    }
    // The output layer is bf16 where it is held, and then as the device multiplies it: f32 here.
    assert!(bytes[1] * 3 < bytes[0] * 2 && bytes[2] < bytes[1], "{bytes:?}");
}

/// The same numbers, of which those of a table that is used at both ends of a model are added in another order.
const AGAIN: (f64, f32) = (0.0, 1e-6);

#[test]
fn blocks_that_are_computed_again_give_the_same() {
    for golden in families::all() {
        let name = golden.folder.display().to_string();
        let graph = |checkpoint| {
            let graph = Graph::with_adapter_by(plain(DType::F32), &golden.model(), golden.adapter(), 7).unwrap();
            graph.with_checkpoints(checkpoint)
        };
        let batch = uneven(&golden.examples());
        assert_near((&graph(true), &graph(false)), &batch, AGAIN, &name);
        let whole =
            |checkpoint| Graph::whole_by(plain(DType::F32), golden.model()).unwrap().with_checkpoints(checkpoint);
        assert_near((&whole(true), &whole(false)), &batch, AGAIN, &name);
    }
}

#[test]
fn twenty_steps_are_those_of_peft() {
    for golden in families::all().into_iter().filter(families::is_without_dropout) {
        let expected: Vec<f64> = golden.bytes("lora_losses").into_iter().map(f64::from_le_bytes).collect();
        let graph = Graph::with_adapter_by(plain(DType::F32), &golden.model(), golden.adapter(), 0).unwrap();
        // A copy of a reference may hold fewer rows.
        let (logits, expected_logits) = (logits(&graph, &golden.batch()), golden.floats("lora_logits"));
        assert!(distance(&logits[..expected_logits.len()], &expected_logits) < 1e-4);
        let (losses, _) = trained(&graph, &golden.examples(), &steady(20, 4));
        assert_eq!(losses.len(), 20);
        for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
            let error = (loss / expected - 1.0).abs();
            assert!(error < 1e-4, "{}, step {step}: {loss} is not {expected}", golden.folder.display());
        }
    }
}

#[test]
fn a_cut_gradient_is_an_error_that_names_the_tensor() {
    let golden = Golden::llama();
    let mut graph = Graph::with_adapter_by(plain(DType::F32), &golden.model(), golden.adapter(), 0).unwrap();
    let name = graph.parameters[3].name.clone();
    // A tensor that the graph does not use.
    graph.parameters[3].var = Var::zeros(graph.parameters[3].var.shape(), DType::F32, &Device::Cpu).unwrap();
    let error = graph.gradients(&golden.batch(), 1.0, 0).unwrap_err().to_string();
    assert_eq!(error, format!("no gradient reaches `{name}`"));
}
