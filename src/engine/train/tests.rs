//! What a training promises: it learns, its bytes depend on the seed alone, it stops when it should.

use super::*;
use crate::engine::model::{AdapterConfig, Config, Model};
use crate::engine::plain::Plain;
use candle_core::Tensor;
use serde_json::json;

fn model() -> Model {
    let json = json!({
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 24, "max_position_embeddings": 64,
        "tie_word_embeddings": true, "initializer_range": 0.1,
    });
    Model::random(&Config::from_json(&json).unwrap(), 5).unwrap()
}

/// Rows of different lengths that count up from a random start: each next token can be learned.
fn examples(count: u64, seed: u64) -> Vec<Example> {
    let random = Random::new(seed, "test rows");
    let row = |index: u64| {
        let (start, length) = (random.bits(2 * index) % 20, 5 + random.bits(2 * index + 1) % 12);
        let ids: Vec<u32> = (start..start + length).map(|id| u32::try_from(id % 24).unwrap()).collect();
        let counted = 2..ids.len();
        Example::new(ids, counted)
    };
    (0..count).map(row).collect()
}

fn config(steps: u64) -> TrainConfig {
    TrainConfig {
        batch_size: 8,
        micro_batch_size: 3,
        packing: None,
        group_by_length: false,
        rate: LearningRate { peak: 1e-2, warmup: 2, steps, decay: Decay::Linear },
        adam: AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 },
        max_grad_norm: 1.0,
        seed: 7,
        evaluate_every: 5,
        patience: None,
        keep_best: true,
        keep_last: 0,
    }
}

fn adapter_graph(dropout: f64) -> Graph {
    adapter_graph_by(Fused, dropout)
}

fn adapter_graph_by<S: Arithmetic>(arithmetic: S, dropout: f64) -> Graph<S> {
    let targets = ["q_proj", "v_proj", "down_proj"].map(String::from).to_vec();
    let config = AdapterConfig { r: 4, alpha: 8.0, dropout, targets: targets.into(), ..AdapterConfig::default() };
    Graph::adapter_by(arithmetic, &model(), config, 3).unwrap()
}

fn plain() -> Plain {
    Plain { device: candle_core::Device::Cpu, dtype: candle_core::DType::F32 }
}

fn run<S: Arithmetic>(graph: &Graph<S>, config: &TrainConfig) -> (Outcome, Vec<Moment>) {
    let mut moments = Vec::new();
    let mut observe = |moment: &Moment| {
        moments.push(moment.clone());
        Ok(())
    };
    let outcome = train(graph, &examples(40, 1), &examples(10, 2), config, None, &mut observe).unwrap();
    (outcome, moments)
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn a_new_model_learns_to_count() {
    let (outcome, moments) = run(&Graph::whole(model()).unwrap(), &config(60));
    let losses: Vec<f64> = moments
        .iter()
        .filter_map(|moment| match moment {
            Moment::Evaluation { loss, .. } => Some(*loss),
            Moment::Step { .. } => None,
        })
        .collect();
    // From ln 24 = 3.2 of blind guessing.
    assert!(losses.len() == 12 && losses[0] > 1.5 && losses[11] < 0.2, "{losses:?}");
    assert_eq!((outcome.steps, outcome.stopped_early), (60, false));
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let bits = |threads: usize, seed: u64, dropout: f64| {
        with_threads(threads, || {
            let config = TrainConfig { seed, ..config(6) };
            let (outcome, moments) = run(&adapter_graph(dropout), &config);
            let bits: Vec<Vec<u32>> =
                outcome.values.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect();
            (bits, moments)
        })
    };
    let reference = bits(1, 7, 0.1);
    assert_eq!(reference, bits(1, 7, 0.1));
    assert_eq!(reference, bits(2, 7, 0.1));
    assert_ne!(reference.0, bits(1, 8, 0.1).0);
    assert_ne!(reference.0, bits(1, 7, 0.0).0);
    let whole = |threads| with_threads(threads, || run(&Graph::whole(model()).unwrap(), &config(6)));
    assert_eq!(whole(1), whole(2));
}

#[test]
fn patience_ends_a_training_and_the_best_weights_are_kept() {
    // A rate that only makes things worse.
    let rate = LearningRate { peak: 3.0, warmup: 0, steps: 50, decay: Decay::Constant };
    let config = TrainConfig { rate, evaluate_every: 1, patience: Some(3), max_grad_norm: 0.0, ..config(50) };
    let (outcome, moments) = run(&adapter_graph(0.0), &config);
    assert!(outcome.stopped_early && outcome.steps < 50);
    let (lowest, step) = outcome.best.unwrap();
    assert_eq!((outcome.kept_step, outcome.steps), (step, step + 3));
    let graph = adapter_graph(0.0);
    for (parameter, values) in graph.parameters().iter().zip(&outcome.values) {
        parameter.set(&Numbers::Host(values.clone())).unwrap();
    }
    assert_eq!(evaluate(&graph, &examples(10, 2), 3).unwrap(), lowest);
    let steps = moments.iter().filter(|moment| matches!(moment, Moment::Step { .. })).count();
    assert_eq!(steps as u64, outcome.steps);
}

/// Keeps the file of every state, with a note.
struct Keeper<'a, S: Arithmetic> {
    graph: &'a Graph<S>,
    path: std::path::PathBuf,
    files: Vec<Vec<u8>>,
    moments: Vec<Moment>,
}

impl<S: Arithmetic> Watcher for Keeper<'_, S> {
    fn saw(&mut self, moment: &Moment) -> Result<()> {
        self.moments.push(moment.clone());
        Ok(())
    }

    fn between(&mut self, state: &State) -> Result<()> {
        state.write(self.graph, format!("{} moments", self.moments.len()).as_bytes(), &self.path)?;
        self.files.push(std::fs::read(&self.path)?);
        Ok(())
    }
}

#[test]
fn a_training_goes_on_from_any_checkpoint_with_the_same_bits() {
    assert_goes_on(|| adapter_graph(0.1));
    assert_goes_on(|| adapter_graph_by(plain(), 0.1));
    assert_goes_on(|| Graph::whole_by(plain(), model()).unwrap());
}

fn assert_goes_on<S: Arithmetic>(new: impl Fn() -> Graph<S>) {
    let folder = tempfile::tempdir().unwrap();
    // Dropout, an epoch's end in the middle (5 steps), evaluations that improve and that do not, the best weights kept.
    let rate = LearningRate { peak: 0.3, warmup: 2, steps: 13, decay: Decay::Cosine { floor: 0.0 } };
    let config = TrainConfig { rate, evaluate_every: 2, patience: Some(3), ..config(13) };
    let graph = new();
    let keeper = || Keeper { graph: &graph, path: folder.path().join("state"), files: vec![], moments: vec![] };
    let (mut whole, rows, validation) = (keeper(), examples(40, 1), examples(10, 2));
    let outcome = train(&graph, &rows, &validation, &config, None, &mut whole).unwrap();
    let is_best =
        |best| whole.moments.iter().any(|moment| matches!(moment, Moment::Evaluation { best: b, .. } if *b == best));
    assert!(is_best(true) && is_best(false), "{:?}", whole.moments);
    for file in &whole.files {
        let graph = new();
        let (state, notes) = State::read(&graph, file).unwrap();
        let before = std::str::from_utf8(&notes).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        let mut moments = Vec::new();
        let mut observe = |moment: &Moment| {
            moments.push(moment.clone());
            Ok(())
        };
        let again = train(&graph, &rows, &validation, &config, Some(state), &mut observe).unwrap();
        assert_eq!(again, outcome);
        assert_eq!(moments, whole.moments[before..]);
    }
}

#[test]
fn a_checkpoint_of_another_graph_or_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, graph) = (folder.path().join("state"), adapter_graph(0.0));
    State::first(&graph).unwrap().write(&graph, b"", &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(State::read(&graph, &bytes).unwrap().0, State::first(&graph).unwrap());
    let error = State::read(&Graph::whole(model()).unwrap(), &bytes).unwrap_err();
    assert!(format!("{error:#}").contains("it has no tensor `first moment "), "{error:#}");
    crate::engine::weights::write(&path, &[]).unwrap();
    assert!(State::read(&graph, &std::fs::read(&path).unwrap()).is_err());
    assert!(State::read(&graph, &bytes[..bytes.len() / 2]).is_err());
}

#[test]
fn every_row_is_seen_once_per_epoch() {
    // 40 rows in batches of 12: three full steps and one of 4 rows.
    let config = TrainConfig { batch_size: 12, ..config(8) };
    let (_, moments) = run(&adapter_graph(0.0), &config);
    let all: u64 = examples(40, 1).iter().map(|example| example.ids.len() as u64).sum();
    let steps: Vec<(f64, u64)> = moments
        .iter()
        .filter_map(|moment| match moment {
            Moment::Step { epoch, tokens, .. } => Some((*epoch, *tokens)),
            Moment::Evaluation { .. } => None,
        })
        .collect();
    for epoch in [0, 4] {
        assert_eq!(steps[epoch..epoch + 4].iter().map(|(_, tokens)| tokens).sum::<u64>(), all);
    }
    assert_eq!((steps[3].0, steps[7].0), (1.0, 2.0));
    assert_ne!(steps[0].1, steps[4].1, "both epochs have one order");
}

#[test]
fn micro_batches_change_no_loss() {
    // Twenty steps with dropout: each row's falls out by its name and place, and every label counts the same.
    let losses = |micro_batch_size: usize, packing: Option<usize>| {
        let config = TrainConfig { micro_batch_size, packing, batch_size: 4, ..config(20) };
        let (_, moments) = run(&adapter_graph(0.3), &config);
        let losses = moments.iter().filter_map(|moment| match moment {
            Moment::Step { loss, .. } => Some(*loss),
            Moment::Evaluation { .. } => None,
        });
        losses.collect::<Vec<f64>>()
    };
    for packing in [None, Some(40)] {
        let whole = losses(4, packing);
        assert_eq!(whole.len(), 20);
        for micro_batch_size in [1, 2] {
            for (step, (loss, expected)) in losses(micro_batch_size, packing).iter().zip(&whole).enumerate() {
                assert!((loss / expected - 1.0).abs() < 1e-5, "{micro_batch_size}, step {step}: {loss}, {expected}");
            }
        }
    }
    assert_ne!(losses(4, None), losses(4, Some(40)));
}

#[test]
fn packed_rows_are_as_alone() {
    // A step of all rows is the same step, however they are packed.
    let first = |packing| {
        let config = TrainConfig { batch_size: 40, micro_batch_size: 40, packing, ..config(1) };
        let (outcome, moments) = run(&adapter_graph(0.3), &config);
        let Moment::Step { loss, tokens, .. } = moments[0] else { panic!("no step") };
        (outcome.steps, loss, tokens)
    };
    let (alone, packed) = (first(None), first(Some(64)));
    assert_eq!((alone.0, alone.2), (packed.0, packed.2));
    assert!((alone.1 / packed.1 - 1.0).abs() < 1e-6, "{} is not {}", packed.1, alone.1);
}

#[test]
fn divergence_stops_with_the_step() {
    let rate = LearningRate { peak: 1e30, warmup: 0, steps: 50, decay: Decay::Constant };
    let graph = Graph::whole(model()).unwrap();
    let error =
        train(&graph, &examples(8, 1), &[], &TrainConfig { rate, ..config(50) }, None, &mut |_: &Moment| Ok(()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("step 2") && error.contains("learning_rate"), "{error}");
    assert!(error.contains("the first bad number is in ") || error.contains("the gradient of "), "{error}");
}

#[test]
fn a_bad_number_is_named() {
    assert_bad_numbers_are_named(|| Graph::whole(model()).unwrap());
    assert_bad_numbers_are_named(|| Graph::whole_by(plain(), model()).unwrap());
}

fn assert_bad_numbers_are_named<S: Arithmetic>(new: impl Fn() -> Graph<S>) {
    let error_of = |graph: &Graph<S>| {
        let end = train(graph, &examples(8, 1), &[], &config(3), None, &mut |_: &Moment| Ok(()));
        end.unwrap_err().to_string()
    };
    let graph = new();
    let names: Vec<&str> = graph.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    let index = names.iter().position(|name| *name == "model.layers.1.mlp.up_proj").unwrap();
    let var = &graph.parameters()[index].var;
    let mut values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
    values[3] = f32::NAN;
    var.set(&Tensor::from_vec(values, var.shape(), var.device()).unwrap()).unwrap();
    let error = error_of(&graph);
    assert!(error.contains("step 1") && error.contains("the weights of `model.layers.1.mlp.up_proj`"), "{error}");
    // Weights that are numbers, but too large for what is made of them.
    let graph = new();
    let var = &graph.parameters()[index].var;
    var.set(&Tensor::full(1e38f32, var.shape(), var.device()).unwrap()).unwrap();
    let error = error_of(&graph);
    assert!(error.contains("the output of block `model.layers.1`"), "{error}");
    // Weights that a step makes too large.
    let rate = LearningRate { peak: 1e39, warmup: 0, steps: 3, decay: Decay::Constant };
    let config = TrainConfig { rate, ..config(3) };
    let error = train(&new(), &examples(8, 1), &[], &config, None, &mut |_: &Moment| Ok(())).unwrap_err().to_string();
    assert!(error.contains("is no finite number after step 1"), "{error}");
}

#[test]
fn rows_without_answers_are_passed_over() {
    let silent = Example { ids: vec![1, 2, 3], counted: vec![] };
    let none =
        train(&adapter_graph(0.0), std::slice::from_ref(&silent), &[], &config(3), None, &mut |_: &Moment| Ok(()));
    assert!(none.unwrap_err().to_string().contains("no row has a token to learn"));
    let mut rows = examples(3, 1);
    rows.push(silent);
    let mut tokens = 0;
    train(&adapter_graph(0.0), &rows, &[], &config(1), None, &mut |moment: &Moment| {
        if let Moment::Step { tokens: seen, .. } = moment {
            tokens += seen;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(tokens, rows[..3].iter().map(|row| row.ids.len() as u64).sum::<u64>());
}
