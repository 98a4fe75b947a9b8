//! Adapters with all their settings against PEFT (`tests/references/make_adapter_references.py`).

use super::*;
use crate::engine::held::Precision;
use crate::engine::model::{Biases, HeldLinear, Saved, Targets};
use crate::engine::weights::Weights;
use std::path::Path;

const CASES: [(&str, &str); 5] =
    [("rslora", "llama"), ("dora", "llama"), ("saved", "llama"), ("bias_all", "gpt_neox"), ("bias_lora_only", "gpt2")];

pub(super) struct Case {
    golden: Golden,
    base: PathBuf,
}

impl Case {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        CASES.iter().map(|(name, base)| Self {
            golden: Golden::at(root().join("adapters").join(name)),
            base: root().join(base),
        })
    }

    pub(super) fn name(&self) -> String {
        self.golden.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    pub(super) fn model(&self) -> Model {
        Model::load(&[&self.base]).unwrap()
    }

    pub(super) fn adapter(&self) -> Adapter {
        Adapter::read(&self.golden.folder).unwrap()
    }

    fn graph(&self) -> Graph {
        Graph::with_adapter(&self.model(), self.adapter(), 0).unwrap()
    }

    pub(super) fn examples(&self) -> Vec<Example> {
        self.golden.rows_of(12)
    }

    fn batch(&self) -> Batch {
        Batch::new((0..).zip(&self.examples()))
    }
}

/// With a decay of weights.
fn config(steps: u64) -> TrainConfig {
    let steady = steady(steps, 2);
    TrainConfig { adam: AdamW { weight_decay: 0.1, ..steady.adam }, ..steady }
}

#[test]
fn logits_and_gradients_are_those_of_peft() {
    for case in Case::all() {
        let (name, graph, batch) = (case.name(), case.graph(), case.batch());
        let error = distance(&logits(&graph, &batch), &case.golden.floats("logits"));
        assert!(error < 5e-5, "{name}: {error}");
        let grads = gradients(&graph, &batch, 1.0 / batch.labels.len() as f64, 0).1;
        let file = SafeTensors::deserialize(&case.golden.file).unwrap();
        let expected = file.names().iter().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(graph.parameters().len(), expected, "{name}: not the same parameters learn");
        let Goal::Adapter(_, slots) = &graph.goal else { panic!("no adapter") };
        for ((parameter, slot), grad) in graph.parameters().iter().zip(slots).zip(&grads) {
            // What files have transposed, is compared as files have it.
            let (grad, end) = match slot {
                Slot::Saved(_, Some((inputs, outputs))) => (transpose(grad, *inputs, *outputs), ".weight"),
                Slot::Saved(tensor, None) => (grad.clone(), if tensor.ends_with(".bias") { "" } else { ".weight" }),
                Slot::Magnitude(_) => (grad.clone(), ""),
                Slot::A(_) | Slot::B(_) => (grad.clone(), ".weight"),
            };
            let plain = format!("grad.base_model.model.{}{end}", parameter.name);
            let (module, last) = parameter.name.rsplit_once('.').unwrap_or_default();
            let wrapped = format!("grad.base_model.model.{module}.base_layer.{last}");
            let expected = case.golden.floats(if case.golden.has(&plain) { &plain } else { &wrapped });
            let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
            let error = distance(&grad, &expected);
            assert!(error < 1e-4 * largest.max(1e-4), "{name}, {}: {error} of {largest}", parameter.name);
        }
    }
}

#[test]
fn ten_steps_are_those_of_peft() {
    for case in Case::all() {
        let expected: Vec<f64> = case.golden.bytes("losses").into_iter().map(f64::from_le_bytes).collect();
        let (losses, _) = trained(&case.graph(), &case.examples(), &config(10));
        for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
            assert!((loss / expected - 1.0).abs() < 1e-4, "{}, step {step}: {loss} is not {expected}", case.name());
        }
    }
}

#[test]
fn merged_adapters_answer_as_those_that_learn() {
    for case in Case::all() {
        let mut merged = case.model();
        case.adapter().merge_into(&mut merged).unwrap();
        let loaded = Model::load(&[&case.base, &case.golden.folder]).unwrap();
        let held = Model::load_held(&[&case.base, &case.golden.folder], Precision::F32).unwrap();
        for (a, b) in merged.tensors().iter().zip(loaded.tensors()) {
            assert!(*a == b, "{}: {}", case.name(), a.name);
        }
        for (a, b) in merged.linears().zip(held.linears()) {
            assert!(*a.weight == *b.weight.rows(0..a.inputs) && a.bias == b.bias, "{}: {}", case.name(), a.name);
        }
        let decoder = Decoder::new(merged);
        let rows: Vec<Vec<u32>> = case.examples().into_iter().map(|row| row.ids).collect();
        let error = distance(&all_logits(&decoder, &rows), &case.golden.floats("logits"));
        assert!(error < 1e-4, "{}: {error}", case.name());
    }
}

#[test]
fn files_are_written_as_peft_wrote_them() {
    for case in Case::all() {
        let (name, folder) = (case.name(), tempfile::tempdir().unwrap());
        // Through the graph, as a training does it.
        let graph = case.graph();
        let values = graph.parameters().iter().map(|parameter| numbers(&parameter.var)).collect();
        let Trained::Adapter(adapter) = graph.finish(values).unwrap() else { panic!("no adapter") };
        assert!(adapter == case.adapter(), "{name}");
        adapter.save(folder.path()).unwrap();
        assert!(Adapter::read(folder.path()).unwrap() == adapter, "{name}");
        let open = |folder: &Path| Weights::open(&[folder.join("adapter_model.safetensors")]).unwrap();
        let (mut old, mut new) = (open(&case.golden.folder), open(folder.path()));
        let shapes: Vec<(String, Vec<usize>)> =
            old.rest().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
        for (tensor, shape) in shapes {
            assert!(old.take(&tensor, &shape).unwrap() == new.take(&tensor, &shape).unwrap(), "{name}: {tensor}");
        }
        assert_eq!(new.rest().next(), None, "{name}");
        let json = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
        };
        let (old, new) = (json(&case.golden.folder), json(folder.path()));
        for (setting, value) in new.as_object().unwrap() {
            let sorted = |value: &serde_json::Value| {
                let mut value = value.clone();
                value.as_array_mut().into_iter().for_each(|list| list.sort_by_key(ToString::to_string));
                value.to_string().replace(".0", "")
            };
            // PEFT notes here that the adapter is still learning.
            let same = setting == "inference_mode" || sorted(value) == sorted(&old[setting]);
            assert!(same, "{name}: `{setting}` is {value}, not {}", old[setting]);
        }
    }
}

fn new_adapter(model: &Model, config: AdapterConfig) -> Adapter {
    Adapter::new(&Model::<HeldLinear>::from(model), config, 3).unwrap()
}

#[test]
fn a_new_adapter_changes_nothing_whatever_its_settings() {
    for case in Case::all() {
        let (model, mut settings) = (case.model(), case.adapter().config);
        settings.dropout = 0.5;
        let base = logits(&Graph::whole(model.clone()).unwrap(), &case.batch());
        let adapter = new_adapter(&model, settings.clone());
        let old: Vec<(String, Vec<usize>)> =
            case.adapter().saved.into_iter().map(|(name, Saved { shape, .. })| (name, shape)).collect();
        let new: Vec<(String, Vec<usize>)> =
            adapter.saved.iter().map(|(name, saved)| (name.clone(), saved.shape.clone())).collect();
        assert_eq!(new, old, "{}: not the same is saved", case.name());
        let graph = Graph::with_adapter(&model, adapter, 3).unwrap();
        assert!(distance(&logits(&graph, &case.batch()), &base) < 2e-5, "{}", case.name());
    }
}

#[test]
fn dropout_of_dora_leaves_the_mean_and_its_gradients_are_slopes() {
    let case = Case::all().nth(1).unwrap();
    let adapter = Adapter { config: AdapterConfig { dropout: 0.3, ..case.adapter().config }, ..case.adapter() };
    let graph = Graph::with_adapter(&case.model(), adapter, 3).unwrap();
    let batch = case.batch();
    let loss = |step| f64::from(graph.loss(&batch, 1.0, step).unwrap().to_scalar::<f32>().unwrap());
    assert_ne!(loss(Some(0)), loss(Some(1)));
    assert_eq!(loss(Some(1)), loss(Some(1)));
    // The magnitudes are not detached, so the loss must change along their gradient by its squared length.
    let grads = gradients(&graph, &batch, 1.0, 1).1;
    for (parameter, grad) in graph.parameters().iter().zip(&grads) {
        if !parameter.name.ends_with("magnitude_vector") {
            continue;
        }
        let squared: f64 = grad.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let values = numbers(&parameter.var);
        let step = 2e-2 / squared.sqrt();
        let at = |sign: f64| {
            let moved: Vec<f32> = values.iter().zip(grad).map(|(x, g)| x + (sign * step) as f32 * g).collect();
            parameter.var.set(&Tensor::from_vec(moved, parameter.var.shape(), &Device::Cpu).unwrap()).unwrap();
            loss(Some(1))
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        at(0.0);
        assert!((slope / squared - 1.0).abs() < 3e-2, "{}: {slope} is not {squared}", parameter.name);
    }
}

#[test]
fn blocks_that_are_computed_again_give_the_same_bits() {
    let run = |graph: Graph, checkpoint: bool, examples: &[Example]| {
        let graph = graph.with_checkpoints(checkpoint);
        let config = TrainConfig { micro_batch_size: 1, ..config(4) };
        let (losses, values) = trained(&graph, examples, &config);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        (losses, values.into_iter().map(bits).collect::<Vec<_>>())
    };
    for case in Case::all() {
        let graph = || {
            let settings = AdapterConfig { dropout: 0.2, ..case.adapter().config };
            Graph::with_adapter(&case.model(), Adapter { config: settings, ..case.adapter() }, 3).unwrap()
        };
        let examples = case.examples();
        assert!(run(graph(), true, &examples) == run(graph(), false, &examples), "{}", case.name());
    }
    // Every kind of block, with all its weights learning; and an adapter on the last block alone.
    for family in families::all() {
        let examples = family.examples();
        let whole = || Graph::whole(family.model()).unwrap();
        assert!(run(whole(), true, &examples) == run(whole(), false, &examples), "{}", family.folder.display());
        let last = || {
            let layout = family.model().config.layout;
            let targets = Targets::Pattern(format!(r"{}\.1\..*", layout.blocks.replace('.', r"\.")));
            Graph::adapter(&family.model(), AdapterConfig { targets, ..AdapterConfig::default() }, 3).unwrap()
        };
        assert!(run(last(), true, &examples) == run(last(), false, &examples), "{}", family.folder.display());
    }
}

#[test]
fn bases_in_few_bits_learn_nearly_the_same() {
    let golden = Golden::llama();
    let exact = trained(&golden.lora(), &golden.examples(), &config(10)).0;
    // Errors of weights that are random numbers, not those of a trained model.
    for (precision, limit) in
        [(Precision::F32, 0.0), (Precision::Bf16, 2e-3), (Precision::Int8, 1e-2), (Precision::Nf4, 0.2)]
    {
        let held = Model::load_held(&[&golden.folder], precision).unwrap();
        // What is held is what is multiplied: the graph over the base made f32 again is the same one.
        let mut plain = golden.model();
        for (linear, held) in plain.linears_mut().zip(held.linears()) {
            linear.weight = Arc::new(held.weight.rows(0..linear.inputs).into_owned());
        }
        plain.head.weight = Arc::new(held.head.weight.rows(0..plain.head.inputs).into_owned());
        let graph = |model: Model<HeldLinear>| Graph::with_adapter(model, golden.adapter(), 0).unwrap();
        let plain = trained(&graph((&plain).into()), &golden.examples(), &config(10)).0;
        let losses = trained(&graph(held), &golden.examples(), &config(10)).0;
        for ((loss, plain), exact) in losses.iter().zip(&plain).zip(&exact) {
            assert!((loss / plain - 1.0).abs() < 1e-6, "{precision:?}: {loss} is not {plain}");
            assert!((loss / exact - 1.0).abs() <= limit, "{precision:?}: {loss} is far from {exact}");
        }
    }
}

#[test]
fn settings_mean_what_they_mean_to_peft() {
    let model = Golden::llama().model();
    let config = AdapterConfig {
        r: 4,
        alpha: 8.0,
        targets: Targets::Pattern(r"model\.layers\.1\..*_proj".to_string()),
        rslora: true,
        bias: Biases::LoraOnly,
        ranks: vec![("o_proj".to_string(), 16), ("self_attn.*".to_string(), 2)],
        alphas: vec![(r"layers\.1\.mlp\.up_proj".to_string(), 3.0)],
        modules_to_save: vec!["v_proj".to_string()],
        ..AdapterConfig::default()
    };
    let adapter = new_adapter(&model, config);
    let ranks: Vec<(&str, usize)> =
        adapter.pairs.iter().map(|(name, pair)| (name.rsplit_once('.').unwrap().1, pair.r())).collect();
    // Only the second block; the first pattern that fits counts; what is saved as a whole has no adapter.
    let expected = [("down_proj", 4), ("gate_proj", 4), ("up_proj", 4), ("k_proj", 2), ("o_proj", 16), ("q_proj", 2)];
    assert_eq!(ranks, expected);
    let selector = adapter.config.selector().unwrap();
    assert_eq!(selector.scale("model.layers.1.self_attn.o_proj"), 2.0);
    assert_eq!(selector.scale("model.layers.1.mlp.up_proj"), 1.5);
    assert_eq!(
        adapter.saved.keys().collect::<Vec<_>>(),
        ["model.layers.0.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.weight"]
    );
    // A pattern must match whole names; an unclosed one is no pattern.
    for (pattern, expected) in [("q_proj", "matches no linear layer"), ("(", "not a regular expression")] {
        let config = AdapterConfig { targets: Targets::Pattern(pattern.to_string()), ..AdapterConfig::default() };
        let error = format!("{:#}", config.check(&model.config).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}
