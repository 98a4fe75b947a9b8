//! Logits, losses, gradients and a training against transformers, PEFT and torch (`tests/golden/engine`).

use super::build::Slot;
use super::*;
use crate::engine::activation::Activation;
use crate::engine::decoder::{Advance, Advances, Cache, Decoder};
use crate::engine::model::AdapterConfig;
use crate::engine::plain::{DeviceDecoder, Plain};
use crate::engine::prompt::PromptEncoder;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::train::{AdamW, Decay, Example, LearningRate, Moment, TrainConfig, evaluate, train};
use crate::engine::weights::transpose;
use crate::prompt::Template;
use safetensors::SafeTensors;
use std::path::PathBuf;

mod adapters;
mod families;
mod plain;

/// The references of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine")
}

struct Golden {
    folder: PathBuf,
    file: Vec<u8>,
}

impl Golden {
    fn llama() -> Self {
        Self::at(root().join("llama"))
    }

    fn at(folder: PathBuf) -> Self {
        let file = std::fs::read(folder.join("reference.safetensors")).unwrap();
        Self { folder, file }
    }

    fn bytes<const SIZE: usize>(&self, name: &str) -> Vec<[u8; SIZE]> {
        let tensors = SafeTensors::deserialize(&self.file).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(SIZE).map(|bytes| bytes.try_into().unwrap()).collect()
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.file).unwrap().tensor(name).is_ok()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn model(&self) -> Model {
        let model = Model::load(&[&self.folder]).unwrap();
        // transformers' eager attention adds Falcon's ALiBi twice: with the mask, and again to the scores
        // (`modeling_falcon.py` of 5.23). Its default attention adds it once, as the models were trained, and so does titer.
        // A reference was computed in the one way or the other, and its logits tell in which.
        let mut twice = model.clone();
        let Some(alibi) = twice.config.alibi.as_mut().filter(|alibi| alibi.rounded) else { return model };
        alibi.scale *= 2.0;
        let expected = self.floats("logits");
        let off = |model: &Model| {
            let logits = logits(&Graph::whole(model.clone()).unwrap(), &self.batch());
            distance(&logits[..expected.len()], &expected)
        };
        if off(&twice) < off(&model) { twice } else { model }
    }

    fn adapter(&self) -> Adapter {
        Adapter::read(&self.folder.join("adapter")).unwrap()
    }

    /// The graph of the base with the reference's adapter.
    fn lora(&self) -> Graph {
        Graph::with_adapter(&self.model(), self.adapter(), 0).unwrap()
    }

    /// The rows with their labels.
    fn examples(&self) -> Vec<Example> {
        self.rows_of(SafeTensors::deserialize(&self.file).unwrap().tensor("ids").unwrap().shape()[1])
    }

    fn rows_of(&self, length: usize) -> Vec<Example> {
        let ids: Vec<u32> =
            self.bytes("ids").into_iter().map(|id| u32::try_from(i64::from_le_bytes(id)).unwrap()).collect();
        let labels: Vec<i64> = self.bytes("labels").into_iter().map(i64::from_le_bytes).collect();
        let rows = ids.chunks(length).zip(labels.chunks(length)).map(|(ids, labels)| {
            let counted = (0..length).filter(|place| labels[*place] >= 0).map(|place| place..place + 1).collect();
            Example { ids: ids.to_vec(), counted }
        });
        rows.collect()
    }

    fn batch(&self) -> Batch {
        Batch::new((0..).zip(&self.examples()))
    }
}

fn logits<S: Arithmetic>(graph: &Graph<S>, batch: &Batch) -> Vec<f32> {
    let hidden = graph.hidden(&graph.way(batch, None).unwrap()).unwrap();
    numbers(&graph.logits(&hidden, &|_| None).unwrap().to_dtype(DType::F32).unwrap())
}

/// The loss of a step and its gradients, in memory.
fn gradients<S: Arithmetic>(graph: &Graph<S>, batch: &Batch, scale: f64, step: u64) -> (f32, Vec<Vec<f32>>) {
    let (loss, grads) = graph.gradients(batch, scale, step).unwrap();
    (loss, grads.iter().map(|grad| grad.host().unwrap().into_owned()).collect())
}

/// The same of the model that answers: after every token of every row.
fn all_logits<D: AllLogits>(decoder: &D, rows: &[Vec<u32>]) -> Vec<f32> {
    let mut caches = vec![D::Cache::default(); rows.len()];
    let mut rows: Vec<Advance<'_, D::Cache>> =
        caches.iter_mut().zip(rows).map(|(cache, tokens)| Advance { cache, tokens }).collect();
    decoder.all(&mut rows)
}

/// A model that gives the logits after every token of every sequence.
trait AllLogits: Advances {
    fn all(&self, rows: &mut [Advance<'_, Self::Cache>]) -> Vec<f32>;
}

impl AllLogits for Decoder {
    fn all(&self, rows: &mut [Advance<'_>]) -> Vec<f32> {
        self.advance_all(rows)
    }
}

impl AllLogits for DeviceDecoder {
    fn all(&self, rows: &mut [Advance<'_, Self::Cache>]) -> Vec<f32> {
        self.advance_all(rows).unwrap()
    }
}

/// Steps of whole batches at one rate.
fn steady(steps: u64, batch_size: usize) -> TrainConfig {
    TrainConfig {
        batch_size,
        micro_batch_size: batch_size,
        packing: None,
        group_by_length: false,
        rate: LearningRate { peak: 3e-3, warmup: 0, steps, decay: Decay::Constant },
        adam: AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 },
        max_grad_norm: 1.0,
        seed: 1,
        evaluate_every: 1,
        patience: None,
        keep_best: false,
        keep_last: 0,
    }
}

/// What `train` gives, and its losses.
fn trained<S: Arithmetic>(graph: &Graph<S>, examples: &[Example], config: &TrainConfig) -> (Vec<f64>, Vec<Vec<f32>>) {
    let mut losses = Vec::new();
    let outcome = train(graph, examples, &[], config, None, &mut |moment: &Moment| {
        if let Moment::Step { loss, .. } = moment {
            losses.push(*loss);
        }
        Ok(())
    });
    (losses, outcome.unwrap().values)
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_transformers() {
    let golden = Golden::llama();
    let whole = Graph::whole(golden.model()).unwrap();
    // 1e-4 is what issue 2 promises; f32 sums in another order give about 1e-6.
    assert!(distance(&logits(&whole, &golden.batch()), &golden.floats("logits")) < 1e-5);
    assert!(distance(&logits(&golden.lora(), &golden.batch()), &golden.floats("lora_logits")) < 1e-5);
    // Rows of other lengths, in one batch: each as if alone.
    let starts: Vec<usize> =
        golden.bytes("starts").into_iter().map(|start| i64::from_le_bytes(start) as usize).collect();
    let rows: Vec<Example> = golden
        .examples()
        .iter()
        .zip(&starts)
        .map(|(row, start)| Example { ids: row.ids[*start..].to_vec(), counted: vec![] })
        .collect();
    let expected: Vec<f32> = (0..4).flat_map(|row| golden.floats(&format!("logits_row{row}"))).collect();
    assert!(distance(&logits(&whole, &Batch::new((0..).zip(&rows))), &expected) < 1e-5);
}

#[test]
fn losses_do_not_depend_on_micro_batches() {
    let golden = Golden::llama();
    let whole = Graph::whole(golden.model()).unwrap();
    let expected = f64::from(golden.floats("loss")[0]);
    for micro_batch in [1, 3, 4] {
        let loss = evaluate(&whole, &golden.examples(), micro_batch).unwrap();
        assert!((loss / expected - 1.0).abs() < 1e-6, "{loss} is not {expected}");
    }
}

#[test]
fn gradients_are_those_of_peft() {
    let golden = Golden::llama();
    let graph = golden.lora();
    let batch = golden.batch();
    let loss = graph.loss(&batch, 1.0 / batch.labels.len() as f64, Some(0)).unwrap();
    assert!((loss.to_scalar::<f32>().unwrap() - golden.floats("lora_loss")[0]).abs() < 1e-5);
    let grads = loss.backward().unwrap();
    assert_eq!(graph.parameters().len(), 2 * 4 * 2);
    for parameter in graph.parameters() {
        let expected = golden.floats(&format!("grad.base_model.model.{}.weight", parameter.name));
        let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
        let error = distance(&numbers(grads.get(&parameter.var).unwrap()), &expected);
        assert!(error < 1e-5 * largest, "{}: {error} of {largest}", parameter.name);
    }
}

#[test]
fn twenty_steps_of_lora_are_those_of_peft() {
    let golden = Golden::llama();
    let expected: Vec<f64> = golden.bytes("lora_losses").into_iter().map(f64::from_le_bytes).collect();
    for micro_batch_size in [4, 1] {
        let config = TrainConfig { micro_batch_size, ..steady(20, 4) };
        let (losses, _) = trained(&golden.lora(), &golden.examples(), &config);
        assert_eq!(losses.len(), 20);
        for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
            // 1e-3 is what issue 2 promises; 1e-5 is what is reached.
            assert!((loss / expected - 1.0).abs() < 1e-5, "step {step}: {loss} is not {expected}");
        }
    }
}

/// A real checkpoint, rows of different lengths from text on, warm-up and decay: made by
/// `tests/references/make_lora_reference.py`.
#[test]
fn twenty_steps_of_a_real_checkpoint_are_those_of_peft() {
    let Some(folder) = crate::engine::stories260k() else { return };
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stories260k_lora");
    let reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden.join("reference.json")).unwrap()).unwrap();
    let (model, adapter) = (Model::load(&[&folder]).unwrap(), Adapter::read(&golden.join("adapter")).unwrap());
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let encoder = PromptEncoder::new(&tokenizer, &Template::AlpacaShort).unwrap();
    let mut examples = Vec::new();
    for row in reference["examples"].as_array().unwrap() {
        let encoded = encoder.example(row.as_object().unwrap(), 512).unwrap();
        assert_eq!(serde_json::json!(encoded.ids), row["ids"]);
        assert_eq!(serde_json::json!(encoded.prompt_len), row["prompt_len"]);
        let counted = encoded.prompt_len..encoded.ids.len();
        examples.push(Example::new(encoded.ids, counted));
    }
    let graph = Graph::with_adapter(&model, adapter, 0).unwrap();
    assert_eq!(graph.parameters().len(), 2 * 7 * 5);
    let config = TrainConfig {
        micro_batch_size: 3,
        rate: LearningRate { peak: 5e-3, warmup: 4, steps: 20, decay: Decay::Linear },
        adam: AdamW { weight_decay: 0.01, ..steady(20, 8).adam },
        evaluate_every: 20,
        ..steady(20, 8)
    };
    let (mut losses, mut last) = (Vec::new(), 0.0);
    train(&graph, &examples, &examples, &config, None, &mut |moment: &Moment| {
        match moment {
            Moment::Step { loss, .. } => losses.push(*loss),
            Moment::Evaluation { loss, .. } => last = *loss,
        }
        Ok(())
    })
    .unwrap();
    losses.push(last);
    let mut expected: Vec<f64> = serde_json::from_value(reference["losses"].clone()).unwrap();
    expected.push(reference["final_loss"].as_f64().unwrap());
    assert_eq!(losses.len(), expected.len());
    for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
        // 1e-3 is what issue 2 promises; 1e-4 leaves room for other processors.
        assert!((loss / expected - 1.0).abs() < 1e-4, "step {step}: {loss} is not {expected}");
    }
}

#[test]
fn all_weights_learn_along_their_slopes() {
    // Central differences along the gradient: the loss must change by the gradient's squared length.
    let golden = Golden::llama();
    let batch = golden.batch();
    for tied in [false, true] {
        let mut model = golden.model();
        if tied {
            model.config.tie_embeddings = true;
        }
        let graph = Graph::whole(model).unwrap();
        assert_eq!(graph.parameters().len(), 1 + 2 * 9 + 1 + usize::from(!tied));
        assert_slopes(&graph, &batch, "llama");
    }
}

fn assert_slopes(graph: &Graph, batch: &Batch, family: &str) {
    let loss = || graph.loss(batch, 1.0 / batch.labels.len() as f64, Some(0)).unwrap();
    let grads = loss().backward().unwrap();
    for parameter in graph.parameters() {
        let (values, grad) = (numbers(&parameter.var), numbers(grads.get(&parameter.var).unwrap()));
        let squared: f64 = grad.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        if parameter.name.ends_with("k_proj.bias") && graph.config.rotaries.is_empty() {
            // What all keys of a query share is not seen by softmax.
            assert!(squared < 1e-9, "{family}, {}: {squared}", parameter.name);
            continue;
        }
        let step = 2e-2 / squared.sqrt();
        let at = |step: f64| {
            let moved: Vec<f32> = values.iter().zip(&grad).map(|(x, g)| x + step as f32 * g).collect();
            parameter.var.set(&Tensor::from_vec(moved, parameter.var.shape(), &Device::Cpu).unwrap()).unwrap();
            f64::from(loss().to_scalar::<f32>().unwrap())
        };
        let slope_over = |step: f64| (at(step) - at(-step)) / (2.0 * step);
        let mut slope = slope_over(step);
        // A step of length 0.02 bends the loss by up to about 1%; more where it goes across the corners of ReLU.
        let limit = if graph.config.activation == Activation::Relu { 5e-2 } else { 2e-2 };
        if (slope / squared - 1.0).abs() >= limit {
            // Half of the step bends it by a quarter of that, which tells how much both did.
            slope = (4.0 * slope_over(step / 2.0) - slope) / 3.0;
        }
        at(0.0);
        assert!((slope / squared - 1.0).abs() < limit, "{family}, {}: {slope} is not {squared}", parameter.name);
    }
}

#[test]
fn a_target_that_names_no_layer_is_told_with_those_that_do() {
    let model = Golden::llama().model();
    let check = |targets: &[&str]| {
        let targets: Vec<String> = targets.iter().map(|target| target.to_string()).collect();
        AdapterConfig { targets: targets.into(), ..AdapterConfig::default() }.check(&model.config)
    };
    assert!(model.config.linear_names().eq(model.linears().map(|linear| linear.name.clone())));
    for linear in model.linears() {
        assert_eq!(model.config.linear_widths(&linear.name), Some((linear.inputs, linear.outputs)));
    }
    check(&["q_proj", "mlp.down_proj", "model.layers.1.self_attn.o_proj"]).unwrap();
    for wrong in ["proj", "query_key_value", "model.layers.2.mlp.up_proj"] {
        let error = check(&["q_proj", wrong]).unwrap_err().to_string();
        assert!(error.contains(wrong) && error.contains("q_proj, k_proj, v_proj, o_proj, gate_proj"), "{error}");
    }
}

#[test]
fn new_adapters_start_where_the_base_is() {
    let golden = Golden::llama();
    let config = AdapterConfig {
        r: 4,
        alpha: 8.0,
        dropout: 0.5,
        targets: vec!["down_proj".to_string()].into(),
        ..AdapterConfig::default()
    };
    let graph = Graph::adapter(&golden.model(), config, 3).unwrap();
    assert!(distance(&logits(&graph, &golden.batch()), &golden.floats("logits")) < 1e-5);
    let a = numbers(&graph.parameters()[0].var);
    let largest = a.iter().map(|value| value.abs()).fold(0.0, f32::max);
    // Uniform within 1/√64.
    assert!(largest <= 0.125 && largest > 0.12, "{largest}");
}
