//! Speed of training on the shapes of the quickstart: a small new model on two threads, an adapter on it on one.
//!
//! `cargo bench --bench train [STEPS]`

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::time::Instant;
use titer::engine::model::{AdapterConfig, Config, Model};
use titer::engine::random::Random;
use titer::engine::train::{AdamW, Decay, Example, Graph, LearningRate, Moment, TrainConfig, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let steps = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(40);
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 384, "vocab_size": 512, "max_position_embeddings": 128, "tie_word_embeddings": true,
    });
    let model = Model::random(&Config::from_json(&config)?, 1)?;
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"].map(String::from);
    let adapter = AdapterConfig {
        r: 16,
        alpha: 32.0,
        dropout: 0.05,
        targets: targets.to_vec().into(),
        ..AdapterConfig::default()
    };
    measure("adapter, batch 16, 1 thread", &Graph::adapter(&model, adapter, 1)?, 16, 1, steps)?;
    for threads in [1, 2] {
        let name = format!("whole model, batch 32, {threads} threads");
        measure(&name, &Graph::whole(model.clone())?, 32, threads, steps)?;
    }
    Ok(())
}

fn measure(name: &str, graph: &Graph, batch_size: usize, threads: usize, steps: u64) -> anyhow::Result<()> {
    let config = TrainConfig {
        batch_size,
        micro_batch_size: batch_size,
        packing: None,
        group_by_length: false,
        rate: LearningRate { peak: 1e-3, warmup: 0, steps, decay: Decay::Linear },
        adam: AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 },
        max_grad_norm: 1.0,
        seed: 1,
        evaluate_every: steps,
        patience: None,
        keep_best: false,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let (started, mut tokens) = (Instant::now(), 0);
    pool.install(|| {
        train(graph, &examples(2000), &[], &config, &mut |moment| {
            if let Moment::Step { tokens: seen, .. } = moment {
                tokens += seen;
            }
            Ok(())
        })
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {:.1} ms a step, {:.0} tokens/s", seconds * 1e3 / steps as f64, tokens as f64 / seconds);
    Ok(())
}

/// Rows of 30 to 40 tokens, of which the last four are learned.
fn examples(count: u64) -> Vec<Example> {
    let random = Random::new(1, "bench rows");
    let row = |index: u64| {
        let length = 30 + random.part(index).bits(0) % 11;
        let ids: Vec<u32> = (1..=length).map(|place| (random.part(index).bits(place) % 512) as u32).collect();
        let counted = ids.len() - 4..ids.len();
        Example::new(ids, counted)
    };
    (0..count).map(row).collect()
}
