//! Speed of training and generation on a model in HF layout, for `benches/engine.py`, which runs it beside torch.
//!
//! `engine train MODEL BATCH TOKENS STEPS` (an adapter of rank 8 on q, k, v, o; `WHOLE=1`: all weights),
//! `engine generate MODEL BATCH TOKENS NEW` and `engine mixed MODEL ROWS NEW` (prompts of 16 to 255 tokens). Prints JSON:
//! processor seconds and wall seconds, of a step or of all answers, and the peak of memory. `DEVICE=card` or `DEVICE=plain`
//! does it by the operations that every device has, on the card or on the processor; `DTYPE` (`bf16`, `f16`) is what goes
//! through the model there, and `CHECKPOINT=1` computes blocks again in the backward pass.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use anyhow::{Context as _, bail};
use candle_core::{DType, Device};
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use titer::engine::decoder::{Advances, Decoder};
use titer::engine::generate::{Constraints, Request, Room, Settings, generate};
use titer::engine::memory;
use titer::engine::model::{AdapterConfig, Config, HeldLinear, Model, Targets};
use titer::engine::plain::{DeviceDecoder, Plain, device};
use titer::engine::tokenizer::{MIN_VOCAB, Tokenizer};
use titer::engine::train::{AdamW, Arithmetic, Decay, Example, Graph, LearningRate, Moment, TrainConfig, train};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |index: usize| -> anyhow::Result<usize> {
        arguments.get(index).context("an argument is missing")?.parse().context("an argument is no number")
    };
    let folder = Path::new(arguments.get(1).context("no model")?);
    let (plain, vocabulary) = (plain()?, Config::read(folder)?.shape.vocab_size);
    let (seconds, wall, number_of) = match arguments[0].as_str() {
        "train" => {
            let (batch, tokens, steps): (usize, usize, usize) = (number(2)?, number(3)?, number(4)?);
            let rows = tokens_of(batch * tokens, vocabulary);
            let rows: Vec<Example> = rows.chunks(tokens).map(|ids| Example::new(ids.to_vec(), 0..tokens)).collect();
            let whole = std::env::var_os("WHOLE").is_some();
            match plain {
                Some(plain) if whole => training(Graph::whole_by(plain, Model::load(&[folder])?)?, &rows, steps)?,
                Some(plain) => {
                    training(Graph::adapter_by(plain.clone(), held(folder, &plain)?, adapter(), 1)?, &rows, steps)?
                }
                None if whole => training(Graph::whole(Model::load(&[folder])?)?, &rows, steps)?,
                None => training(Graph::adapter(&Model::load(&[folder])?, adapter(), 1)?, &rows, steps)?,
            }
        }
        "generate" => {
            let (batch, tokens, new): (usize, usize, usize) = (number(2)?, number(3)?, number(4)?);
            let prompts = tokens_of(batch * tokens, vocabulary);
            answers(folder, plain, &prompts.chunks(tokens).collect::<Vec<_>>(), new)?
        }
        "mixed" => {
            let (rows, new): (usize, usize) = (number(2)?, number(3)?);
            let lengths: Vec<usize> = (0..rows).map(|row| 16 + row * 101 % 240).collect();
            let tokens = tokens_of(lengths.iter().sum(), vocabulary);
            let mut rest = tokens.as_slice();
            let prompts = lengths.iter().map(|length| rest.split_off(..*length).unwrap_or_default());
            answers(folder, plain, &prompts.collect::<Vec<_>>(), new)?
        }
        other => bail!("no such case: `{other}`"),
    };
    #[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
    let peak = memory::peak().context("the system does not tell the peak of memory")? as f64 / f64::from(1 << 20);
    println!("{}", json!({ "cpu": seconds / number_of, "wall": wall / number_of, "peak_mib": peak }));
    Ok(())
}

/// The operations that are asked for, where they are not those of our own.
fn plain() -> anyhow::Result<Option<Plain>> {
    let variable = |name: &str| std::env::var_os(name).unwrap_or_default().to_string_lossy().into_owned();
    let device = match variable("DEVICE").as_str() {
        "" => return Ok(None),
        "plain" => Device::Cpu,
        "card" => device::card().context("there is no card, or this program was not built for it")?,
        other => bail!("no such device: `{other}`"),
    };
    let dtype = match variable("DTYPE").as_str() {
        "" | "f32" => DType::F32,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        other => bail!("no such type: `{other}`"),
    };
    Ok(Some(Plain { device, dtype }))
}

fn held(folder: &Path, plain: &Plain) -> anyhow::Result<Model<HeldLinear>> {
    Model::<HeldLinear>::load_held(&[folder], plain.precision())
}

fn answers(folder: &Path, plain: Option<Plain>, prompts: &[&[u32]], new: usize) -> anyhow::Result<(f64, f64, f64)> {
    match plain {
        Some(plain) => answering(&DeviceDecoder::new(held(folder, &plain)?, None, plain)?, prompts, new),
        None => answering(&Decoder::new(Model::load(&[folder])?), prompts, new),
    }
}

fn adapter() -> AdapterConfig {
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj"].map(String::from).to_vec();
    AdapterConfig { targets: Targets::Names(targets), ..AdapterConfig::default() }
}

/// The tokens that `engine.py` has too.
fn tokens_of(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|i| u32::try_from(3 + (i * 7919 + 13 * (i / 7)) % (vocabulary - 3)).unwrap_or(3)).collect()
}

/// Processor and wall seconds of so many steps, after one that is not counted.
fn training<S: Arithmetic>(graph: Graph<S>, rows: &[Example], steps: usize) -> anyhow::Result<(f64, f64, f64)> {
    let graph = graph.with_checkpoints(std::env::var_os("CHECKPOINT").is_some());
    let config = TrainConfig {
        batch_size: rows.len(),
        micro_batch_size: rows.len(),
        rate: LearningRate { peak: 3e-4, warmup: 0, steps: steps as u64 + 1, decay: Decay::Constant },
        adam: AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 },
        max_grad_norm: 1.0,
        seed: 1,
        evaluate_every: 1,
        patience: None,
        keep_best: false,
        keep_last: 0,
        packing: None,
        group_by_length: false,
    };
    let mut first = None;
    train(&graph, rows, &[], &config, None, &mut |_: &Moment| {
        first.get_or_insert_with(|| (processor_seconds(), Instant::now()));
        Ok(())
    })?;
    let (cpu, wall) = first.context("no step was done")?;
    Ok((processor_seconds() - cpu, wall.elapsed().as_secs_f64(), steps as f64))
}

/// Processor and wall seconds of answers of exactly so many tokens.
fn answering<D: Advances>(decoder: &D, prompts: &[&[u32]], new: usize) -> anyhow::Result<(f64, f64, f64)> {
    let tokenizer = Tokenizer::train_bpe([""].iter(), MIN_VOCAB)?;
    let constraints = Constraints { min_new_tokens: new, ..Settings::GREEDY.constraints };
    let settings = Settings { max_new_tokens: new, constraints, ..Settings::GREEDY };
    let room = Room { batch_size: prompts.len(), cache_bytes: usize::MAX };
    let requests: Vec<Request<'_>> = prompts.iter().map(|prompt| Request { prompt, key: 0 }).collect();
    let (cpu, wall) = (processor_seconds(), Instant::now());
    generate(decoder, &tokenizer, &requests, &settings, room, |_, _| {})?;
    Ok((processor_seconds() - cpu, wall.elapsed().as_secs_f64(), 1.0))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
