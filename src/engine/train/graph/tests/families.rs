//! Every family against transformers and PEFT: all folders of `TITER_GOLDEN_ENGINE`, else of `tests/golden/engine`.

use super::*;
use crate::engine::generate::{BeamSearch, EarlyStopping, Request, Room, Search, Settings, StopReason, generate};
use crate::engine::plain::Pages;
use crate::engine::weights::{NamedTensor, Weights};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// The folder that is asked for, where it is not the repository's own.
fn other_root() -> Option<PathBuf> {
    std::env::var_os("TITER_GOLDEN_ENGINE").map(PathBuf::from)
}

pub(super) fn all() -> Vec<Golden> {
    let root = other_root().unwrap_or_else(root);
    let entries = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("reference.safetensors").exists()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "no reference in {}", root.display());
    folders.into_iter().map(Golden::at).collect()
}

/// What was measured, and by how much it may be off.
struct Report {
    family: String,
    wrong: String,
}

impl Report {
    /// Notes an error that is too large, or no number.
    fn check(&mut self, what: &str, error: f64, limit: f64) {
        if error.is_nan() || error > limit {
            writeln!(self.wrong, "{}: {what} is off by {error:.1e}, more than {limit:.0e}", self.family).unwrap();
        }
    }
}

impl Golden {
    fn ids_of(&self, name: &str) -> Vec<u32> {
        self.bytes(name).into_iter().map(|id| u32::try_from(i64::from_le_bytes(id)).unwrap()).collect()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.join("config.json")).unwrap()).unwrap()
    }

    fn report(&self) -> Report {
        Report { family: self.folder.file_name().unwrap().to_string_lossy().into_owned(), wrong: String::new() }
    }

    /// Row by row, from where its text begins.
    fn rows_from_starts(&self) -> Vec<Vec<u32>> {
        let rows = self.examples();
        rows.iter().zip(self.ids_of("starts")).map(|(row, start)| row.ids[start as usize..].to_vec()).collect()
    }

    /// The losses of a training.
    fn losses(&self) -> Vec<f64> {
        self.bytes("lora_losses").into_iter().map(f64::from_le_bytes).collect()
    }

    /// Whether PEFT's values are those of the model alone: they were computed in training mode, and with torch's own dropout
    /// where a base has some. Then the loss before the first step, which a reference holds twice, is another one each time.
    fn is_without_dropout(&self) -> bool {
        let (once, again) = (f64::from(self.floats("lora_loss")[0]), self.losses()[0]);
        (once / again - 1.0).abs() < 1e-6
    }

    /// Whether its `config.json` has dropout.
    fn has_dropout(&self) -> bool {
        let names =
            ["dropout", "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "layerdrop"];
        let config = self.config();
        names.iter().any(|name| config[name].as_f64().is_some_and(|share| share > 0.0))
    }
}

/// See [`Golden::is_without_dropout`].
pub(super) fn is_without_dropout(golden: &Golden) -> bool {
    golden.is_without_dropout()
}

/// The distance from the first of `expected`; a copy of a reference may hold fewer rows.
fn from_first(actual: &[f32], expected: &[f32]) -> f64 {
    assert!(!expected.is_empty() && expected.len() <= actual.len());
    f64::from(distance(&actual[..expected.len()], expected))
}

fn finish(reports: impl Iterator<Item = Report>) {
    let wrong: String = reports.map(|report| report.wrong).collect();
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn answers_are_those_of_transformers() {
    finish(all().iter().map(|golden| check_answers(golden, &Decoder::new(golden.model()), true)));
}

#[test]
fn answers_of_devices_are_those_of_transformers() {
    finish(all().iter().map(|golden| {
        let decoder = DeviceDecoder::new(&golden.model(), None, super::plain::plain(DType::F32)).unwrap();
        check_answers(golden, &decoder, false)
    }));
}

/// `exact`: a row has the same bits in every company.
fn check_answers<D: AllLogits>(golden: &Golden, decoder: &D, exact: bool) -> Report {
    let mut report = golden.report();
    let tokenizer = Tokenizer::load(&golden.folder).unwrap();
    let rows: Vec<Vec<u32>> = golden.examples().into_iter().map(|row| row.ids).collect();
    report.check("logits", from_first(&all_logits(decoder, &rows), &golden.floats("logits")), 1e-4);

    let starts = golden.rows_from_starts();
    let together = all_logits(decoder, &starts);
    let mut begin = 0;
    for (index, row) in starts.iter().enumerate() {
        let end = begin + row.len() * decoder.vocab_size();
        let name = format!("logits_row{index}");
        if golden.has(&name) {
            let alone = all_logits(decoder, std::slice::from_ref(row));
            assert!(!exact || alone == together[begin..end], "{}: row {index} depends on the others", report.family);
            report.check(&name, from_first(&alone, &golden.floats(&name)), 1e-4);
            report.check(&name, from_first(&together[begin..end], &golden.floats(&name)), 1e-4);
        }
        begin = end;
    }

    let search = BeamSearch { width: 4, length_penalty: 1.0, early_stopping: EarlyStopping::Always };
    let ways = [("greedy", 24, Search::Greedy), ("beam4", 16, Search::Beams(search))];
    let eos = tokenizer.eos();
    let requests: Vec<Request<'_>> = starts.iter().map(|prompt| Request { prompt, key: 0 }).collect();
    let room = Room { batch_size: 12, cache_bytes: usize::MAX };
    for (way, max_new_tokens, search) in ways {
        let answer_of = |index: usize| golden.ids_of(&format!("{way}_row{index}"));
        let longest = (0..starts.len()).map(|index| answer_of(index).len()).max().unwrap_or(0);
        let max_new_tokens = longest.max(max_new_tokens);
        let settings = Settings { max_new_tokens, search, ..Settings::GREEDY };
        let answers = generate(decoder, &tokenizer, &requests, &settings, room, |_, _| {}).unwrap();
        for (index, answer) in answers.iter().flatten().enumerate() {
            let mut expected = answer_of(index);
            let ended = expected.pop_if(|token| eos.contains(token)).is_some();
            let right = answer.tokens == expected && (answer.stop == StopReason::Eos) == ended;
            report.check(&format!("the {way} answer to row {index}"), f64::from(u8::from(!right)), 0.0);
        }
    }
    report
}

#[test]
fn pieces_and_steps_of_devices_give_the_same() {
    for golden in all() {
        let decoder = DeviceDecoder::new(&golden.model(), None, super::plain::plain(DType::F32)).unwrap();
        let rows = golden.rows_from_starts();
        let rows = [&rows[0], &rows[1]];
        let whole = rows.map(|row| all_logits(&decoder, std::slice::from_ref(row)));
        let (mut caches, mut logits) = ([(); 2].map(|()| Pages::default()), [Vec::new(), Vec::new()]);
        // A piece here, a token there: rows of several lengths go through attention together.
        for ends in [[1, 4], [rows[0].len() - 2, 5], [rows[0].len() - 1, 6], rows.map(Vec::len)] {
            let begins = caches.each_ref().map(Pages::positions);
            let tokens = [0, 1].map(|row| &rows[row][begins[row]..ends[row]]);
            let steps = caches.iter_mut().zip(tokens).map(|(cache, tokens)| Advance { cache, tokens });
            let mut both = decoder.all(&mut steps.collect::<Vec<_>>());
            logits[1].extend(both.split_off(tokens[0].len() * decoder.vocab_size()));
            logits[0].extend(both);
        }
        for (pieces, whole) in logits.iter().zip(&whole) {
            // Sums in another order.
            assert!(distance(pieces, whole) < 2e-5, "{}", golden.report().family);
        }
    }
}

#[test]
fn pieces_and_steps_give_the_same_bits() {
    for golden in all() {
        let (decoder, rows) = (Decoder::new(golden.model()), golden.rows_from_starts());
        let row = &rows[0];
        let whole = all_logits(&decoder, std::slice::from_ref(row));
        let (mut cache, mut logits) = (Cache::default(), Vec::new());
        for tokens in [&row[..1], &row[1..9], &row[9..10], &row[10..]] {
            logits.extend(decoder.advance_all(&mut [Advance { cache: &mut cache, tokens }]));
        }
        let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        assert!(bits(&whole) == bits(&logits), "{}", golden.report().family);
    }
}

#[test]
fn losses_and_logits_of_a_training_are_those_of_transformers() {
    finish(all().iter().map(|golden| {
        let mut report = golden.report();
        let whole = Graph::whole(golden.model()).unwrap();
        report.check("logits", from_first(&logits(&whole, &golden.batch()), &golden.floats("logits")), 1e-4);
        let expected = f64::from(golden.floats("loss")[0]);
        let loss = evaluate(&whole, &golden.examples(), 3).unwrap();
        report.check("loss", (loss / expected - 1.0).abs(), 1e-5);
        report
    }));
}

#[test]
fn adapters_are_those_of_peft() {
    let (mut compared, mut left_out) = (BTreeSet::new(), BTreeSet::new());
    let goldens = all();
    let reports = goldens.iter().map(|golden| {
        let mut report = golden.report();
        let kind = golden.config()["model_type"].to_string();
        let (graph, batch) = (golden.lora(), golden.batch());
        let actual = logits(&graph, &batch);
        let mut merged = golden.model();
        golden.adapter().merge_into(&mut merged).unwrap();
        let rows: Vec<Vec<u32>> = golden.examples().into_iter().map(|row| row.ids).collect();
        report.check("merged", from_first(&all_logits(&Decoder::new(merged), &rows), &actual), 1e-4);
        if !golden.is_without_dropout() {
            report.check("the loss, which differs from itself without dropout", f64::from(!golden.has_dropout()), 0.0);
            left_out.insert(kind);
            return report;
        }
        compared.insert(kind);
        report.check("logits", from_first(&actual, &golden.floats("lora_logits")), 1e-4);
        let loss = graph.loss(&batch, 1.0 / batch.labels.len() as f64, Some(0)).unwrap();
        let expected = f64::from(golden.floats("lora_loss")[0]);
        report.check("loss", (f64::from(loss.to_scalar::<f32>().unwrap()) / expected - 1.0).abs(), 1e-5);
        let grads = loss.backward().unwrap();
        let file = SafeTensors::deserialize(&golden.file).unwrap();
        let learning = file.names().into_iter().filter(|name| name.starts_with("grad.")).count();
        report.check("the number of gradients", learning.abs_diff(graph.parameters().len()) as f64, 0.0);
        for parameter in graph.parameters() {
            let expected = golden.floats(&format!("grad.base_model.model.{}.weight", parameter.name));
            let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
            let error = distance(&numbers(grads.get(&parameter.var).unwrap()), &expected) / largest;
            report.check(&format!("the gradient of {}", parameter.name), f64::from(error), 1e-4);
        }
        let (losses, _) = trained(&graph, &golden.examples(), &steady(20, 4));
        assert_eq!(losses.len(), 20);
        for (step, (loss, expected)) in losses.iter().zip(&golden.losses()).enumerate() {
            report.check(&format!("the loss of step {step}"), (loss / expected - 1.0).abs(), 1e-4);
        }
        report
    });
    finish(reports.collect::<Vec<_>>().into_iter());
    left_out.retain(|kind| !compared.contains(kind));
    // Of its own references some are without dropout for every family; nobody can promise that of others.
    let left_out = left_out.into_iter().collect::<Vec<_>>().join(", ");
    match other_root() {
        None => assert_eq!(left_out, "", "not compared, as their bases have dropout"),
        #[expect(clippy::print_stderr, reason = "whoever brings other references must know what they cannot show")]
        Some(_) if !left_out.is_empty() => eprintln!("not compared with PEFT, as their bases have dropout: {left_out}"),
        Some(_) => {}
    }
}

#[test]
fn models_and_adapters_are_written_as_they_were_read() {
    for golden in all() {
        let family = golden.report().family;
        let model = golden.model();
        let mut file = Weights::open_model(&golden.folder).unwrap();
        let mut tensors = model.tensors();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let shapes: Vec<(String, Vec<usize>)> =
            file.rest().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
        let written: Vec<(String, Vec<usize>)> =
            tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
        assert_eq!(written, shapes, "{family}");
        for NamedTensor { name, shape, values } in &tensors {
            assert!(file.take(name, shape).unwrap() == *values, "{family}: {name}");
        }
        let mut config = golden.config();
        config.as_object_mut().unwrap().shift_remove("torch_dtype");
        config["dtype"] = "float32".into();
        assert_eq!(model.config.to_json(), config, "{family}");
        assert_eq!(model.config.weights(), tensors.iter().map(|tensor| tensor.values.len()).sum::<usize>(), "{family}");

        let folder = tempfile::tempdir().unwrap();
        golden.adapter().save(folder.path()).unwrap();
        let open = |folder: &Path| Weights::open(&[folder.join("adapter_model.safetensors")]).unwrap();
        let (mut old, mut new) = (open(&golden.folder.join("adapter")), open(folder.path()));
        let shapes: Vec<(String, Vec<usize>)> =
            old.rest().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
        for (name, shape) in shapes {
            assert!(old.take(&name, &shape).unwrap() == new.take(&name, &shape).unwrap(), "{family}: {name}");
        }
        assert_eq!(new.rest().next(), None, "{family}");
        assert_eq!(Adapter::read(folder.path()).unwrap(), golden.adapter(), "{family}");
    }
}

#[test]
fn all_weights_of_every_family_learn_along_their_slopes() {
    for golden in all() {
        let family = golden.report().family;
        let graph = Graph::whole(golden.model()).unwrap();
        assert_eq!(graph.parameters().len(), golden.model().tensors().len(), "{family}");
        super::assert_slopes(&graph, &golden.batch(), &family);
    }
}
