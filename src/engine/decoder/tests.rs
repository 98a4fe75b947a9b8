//! Against transformers' values: the tiny random Llama of `tests/golden/engine/llama` (its README says how it was made),
//! and a real checkpoint where there is one.

use super::*;
use crate::engine::generate::{Answer, Request, Room, Settings, StopReason, generate};
use crate::engine::held::Precision;
use crate::engine::model::{AdapterConfig, Targets};
use crate::engine::tokenizer::Tokenizer;
use crate::engine::train::{Batch, Example, Graph, Trained};
use crate::random::Random;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A tensor of the reference file: f32 values, or integers as ids.
struct Reference(Vec<u8>);

impl Reference {
    fn read() -> Self {
        Self(std::fs::read(golden("engine/llama/reference.safetensors")).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks().0.iter().map(|bytes| u32::try_from(i64::from_le_bytes(*bytes)).unwrap()).collect()
    }

    /// Row `row` of the inputs, from where its text begins.
    fn prompt(&self, row: usize) -> Vec<u32> {
        let start = self.ids("starts")[row] as usize;
        self.ids("ids")[row * 40 + start..(row + 1) * 40].to_vec()
    }
}

fn tiny(layers: &[&str]) -> Decoder {
    let paths: Vec<PathBuf> = layers.iter().map(|layer| golden(layer)).collect();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    Decoder::new(Model::load(&paths).unwrap())
}

fn largest_difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The required agreement of logits. They are of order 1 to 10 here; f32 sums in another order differ by about 1e-6.
const TOLERANCE: f32 = 1e-4;

#[test]
fn logits_are_those_of_transformers() {
    let (decoder, reference) = (tiny(&["engine/llama"]), Reference::read());
    for row in 0..4 {
        let (prompt, mut cache) = (reference.prompt(row), Cache::default());
        let logits = decoder.advance_all(&mut [Advance { cache: &mut cache, tokens: &prompt }]);
        let difference = largest_difference(&logits, &reference.floats(&format!("logits_row{row}")));
        assert!(difference <= TOLERANCE, "row {row}: {difference}");
        assert_eq!(cache.positions(), prompt.len());
    }
}

#[test]
fn an_adapter_is_applied() {
    let (decoder, reference) = (tiny(&["engine/llama", "engine/llama/adapter"]), Reference::read());
    let ids = reference.ids("ids");
    let mut caches = vec![Cache::default(); 4];
    let mut rows: Vec<Advance<'_>> =
        caches.iter_mut().zip(ids.chunks(40)).map(|(cache, tokens)| Advance { cache, tokens }).collect();
    let difference = largest_difference(&decoder.advance_all(&mut rows), &reference.floats("lora_logits"));
    assert!(difference <= TOLERANCE, "{difference}");
}

#[test]
fn a_sequence_has_the_same_bits_alone_among_others_and_piece_by_piece() {
    let (decoder, reference) = (tiny(&["engine/llama"]), Reference::read());
    let prompts: Vec<Vec<u32>> = (0..4).map(|row| reference.prompt(row)).collect();
    let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
    let alone = |tokens: &[u32]| bits(&decoder.advance(&mut [Advance { cache: &mut Cache::default(), tokens }]));
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut caches = vec![Cache::default(); 4];
        let mut rows: Vec<Advance<'_>> =
            caches.iter_mut().zip(&prompts).map(|(cache, tokens)| Advance { cache, tokens }).collect();
        let together = bits(&pool.install(|| decoder.advance(&mut rows)));
        for (row, logits) in together.chunks_exact(decoder.vocab_size()).enumerate() {
            assert!(logits == alone(&prompts[row]), "row {row}, {threads} threads");
        }
    }
    let mut cache = Cache::default();
    let pieces = [&prompts[0][..1], &prompts[0][1..7], &prompts[0][7..8], &prompts[0][8..]];
    let mut last = Vec::new();
    for tokens in pieces {
        last = decoder.advance(&mut [Advance { cache: &mut cache, tokens }]);
    }
    assert!(bits(&last) == alone(&prompts[0]), "piece by piece");
}

fn answers(decoder: &Decoder, tokenizer: &Tokenizer, prompts: &[Vec<u32>], batch_size: usize) -> Vec<Answer> {
    let settings = Settings { max_new_tokens: 24, ..Settings::GREEDY };
    let requests: Vec<Request<'_>> = prompts.iter().map(|prompt| Request { prompt, key: 0 }).collect();
    let room = Room { batch_size, cache_bytes: usize::MAX };
    generate(decoder, tokenizer, &requests, &settings, room, |_, _| {}).unwrap().into_iter().flatten().collect()
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let (decoder, reference) = (tiny(&["engine/llama"]), Reference::read());
    let tokenizer = Tokenizer::load(&golden("engine/llama")).unwrap();
    let prompts: Vec<Vec<u32>> = (0..4).map(|row| reference.prompt(row)).collect();
    for (row, answer) in answers(&decoder, &tokenizer, &prompts, 4).into_iter().enumerate() {
        let mut expected = reference.ids(&format!("greedy_row{row}"));
        let stop = if expected.pop_if(|token| *token == 2).is_some() { StopReason::Eos } else { StopReason::Length };
        assert_eq!((answer.tokens, answer.stop), (expected, stop), "row {row}");
    }
}

#[test]
fn a_real_checkpoint_tells_its_story() {
    let Some(folder) = crate::engine::stories260k() else { return };
    let reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden("stories260k.json")).unwrap()).unwrap();
    let ids = |name: &str| serde_json::from_value::<Vec<u32>>(reference[name].clone()).unwrap();
    let decoder = Decoder::new(Model::load(&[&folder]).unwrap());
    let tokenizer = Tokenizer::load(&folder).unwrap();

    let all = decoder.advance_all(&mut [Advance { cache: &mut Cache::default(), tokens: &ids("ids") }]);
    let expected: Vec<Vec<f32>> = serde_json::from_value(reference["logits"].clone()).unwrap();
    for (position, expected) in ids("positions").into_iter().zip(expected) {
        let logits = &all[position as usize * decoder.vocab_size()..][..decoder.vocab_size()];
        let difference = largest_difference(logits, &expected);
        assert!(difference <= TOLERANCE, "position {position}: {difference}");
    }

    assert_eq!(tokenizer.prefix(), [1]);
    let settings = Settings { max_new_tokens: 200, ..Settings::GREEDY };
    let (request, room) = (Request { prompt: tokenizer.prefix(), key: 0 }, Room { batch_size: 1, cache_bytes: 0 });
    let story = generate(&decoder, &tokenizer, &[request], &settings, room, |_, _| {}).unwrap().remove(0).remove(0);
    assert_eq!(story.tokens, ids("greedy"));
    assert_eq!(story.text, reference["text"].as_str().unwrap());
    assert_eq!(story.stop, StopReason::Length);
}

#[test]
fn a_sliding_window_bounds_the_cache() {
    // Windows of 16 positions: at most 2 pages of 16, and a third while the window lies over three.
    let (decoder, reference) = (tiny(&["engine/mistral"]), Reference::read());
    let (tokens, mut cache) = (reference.ids("ids"), Cache::default());
    decoder.advance(&mut [Advance { cache: &mut cache, tokens: &tokens[..121] }]);
    assert_eq!(cache.pages(), [2, 2]);
    assert!(decoder.cache_bytes(1000) == decoder.cache_bytes(32) && decoder.cache_bytes(32) > decoder.cache_bytes(16));
    let full = tiny(&["engine/llama"]);
    assert_eq!(full.cache_bytes(64), 4 * full.cache_bytes(16));
}

/// The logits after every token of a text.
fn logits(decoder: &Decoder) -> Vec<f32> {
    let tokens: Vec<u32> = (5..45).collect();
    decoder.advance_all(&mut [Advance { cache: &mut Cache::default(), tokens: &tokens }])
}

#[test]
fn an_adapter_beside_its_base_does_what_a_merged_one_does() {
    let families =
        ["llama", "bloom", "falcon", "falcon_new", "gemma3", "gpt2", "gpt_neox", "olmo2", "opt_350m", "phi3"];
    let own = families.map(|family| (family, format!("{family}/adapter")));
    let others = [
        ("dora", "llama"),
        ("rslora", "llama"),
        ("saved", "llama"),
        ("bias_all", "gpt_neox"),
        ("bias_lora_only", "gpt2"),
    ];
    let others = others.map(|(name, family)| (family, format!("adapters/{name}")));
    for (family, adapter) in own.into_iter().chain(others) {
        let [base, adapter] = [family.to_string(), adapter].map(|name| golden(&format!("engine/{name}")));
        let merged = logits(&Decoder::new(Model::load(&[&base, &adapter]).unwrap()));
        let held = Model::load_held(&[&base], Precision::F32).unwrap();
        let beside = logits(&Decoder::new(held.with_adapter(Some(&adapter)).unwrap()));
        let difference = largest_difference(&beside, &merged);
        assert!(difference <= TOLERANCE, "{}: {difference}", adapter.display());
        let alone = logits(&Decoder::new(held.with_adapter(None).unwrap()));
        assert!(largest_difference(&alone, &merged) > 10.0 * TOLERANCE, "{}: it adds nothing", adapter.display());
        assert_eq!(alone, logits(&Decoder::new(Model::load(&[&base]).unwrap())));
    }
}

/// On a base of few bits an adapter answers as it learned.
#[test]
fn what_is_predicted_is_what_was_trained() {
    for (family, precision, dora) in [
        ("llama", Precision::Nf4, true),
        ("gpt_neox", Precision::Int8, false),
        ("falcon_new", Precision::Nf4, false),
        ("gpt2", Precision::Bf16, true),
    ] {
        let base = Model::load_held(&[&golden(&format!("engine/{family}"))], precision).unwrap();
        let settings = AdapterConfig { dora, targets: Targets::AllLinear, ..AdapterConfig::default() };
        let graph = Graph::adapter(base.clone(), settings, 3).unwrap();
        let random = Random::new(7, "an adapter that has learned");
        for parameter in graph.parameters() {
            let numbers = parameter.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let moved = numbers.iter().zip(0..).map(|(number, index)| number + 0.05 * random.normal(index) as f32);
            let moved = Tensor::from_vec(moved.collect::<Vec<f32>>(), parameter.var.shape(), &Device::Cpu).unwrap();
            parameter.var.set(&moved).unwrap();
        }
        let tokens: Vec<u32> = (5..45).collect();
        let example = Example::new(tokens.clone(), 1..tokens.len());
        let loss = graph.loss(&Batch::new([(0, &example)]), 1.0, None).unwrap().to_scalar::<f32>().unwrap();

        let numbers =
            |parameter: &crate::engine::train::Parameter| parameter.var.flatten_all().unwrap().to_vec1().unwrap();
        let values = graph.parameters().iter().map(numbers).collect();
        let Trained::Adapter(adapter) = graph.finish(values).unwrap() else { panic!("no adapter") };
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path()).unwrap();
        let decoder = Decoder::new(base.with_adapter(Some(folder.path())).unwrap());
        let (mut cache, next) = (Cache::default(), &tokens[1..]);
        let mut sequence = [Advance { cache: &mut cache, tokens: &tokens[..tokens.len() - 1] }];
        let sum: f32 = decoder.advance_towards(&mut sequence, &[next])[0].iter().sum();
        assert!((loss + sum).abs() < 1e-4 * loss, "{family}: {loss} in training, {} in prediction", -sum);
        let [with, without] =
            [Some(folder.path()), None].map(|adapter| logits(&Decoder::new(base.with_adapter(adapter).unwrap())));
        assert!(largest_difference(&with, &without) > 1e-2, "{family}: the adapter adds nothing");
    }
}
