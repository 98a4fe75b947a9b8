//! Speed of scorers that read texts by a model, for `benches/scorers_models.py`, which runs it beside torch.
//!
//! `scorers_models KIND MODEL ROWS` (`KIND` sbert, or bertscore of the last layer; `ROWS` JSON lines with `prediction` and
//! `output`). Prints JSON: processor seconds and wall seconds of all rows, without loading the model, the mean of the
//! first metric, and the peak of memory.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use anyhow::Context as _;
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use titer::engine::encoder::Config;
use titer::engine::memory;
use titer::row::{self, Row};
use titer::scorer::{Answer, Files, find};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [kind, model, rows] = arguments.as_slice() else { anyhow::bail!("KIND MODEL ROWS") };
    let (model, rows) = (Path::new(model), read(Path::new(rows))?);
    let layer = Config::read(model)?.shape.blocks;
    let params = match kind.as_str() {
        "sbert" => json!({ "pooling": null, "max_tokens": null }),
        _ => json!({ "layer": layer, "idf": false, "max_tokens": null }),
    };
    let by_model = find(kind).and_then(|definition| definition.by_model()).context("no such scorer")?;
    let mut scorer = (by_model.build)(params, &Files { model, other: None })?;
    let (cpu, wall) = (processor_seconds(), Instant::now());
    for row in &rows {
        let texts = ["prediction", "output"].map(|name| row::text(row, name).unwrap_or_default());
        scorer.take(&Answer { prediction: &texts[0], references: &texts[1..], row })?;
    }
    let values = scorer.score(&(0..rows.len()).collect::<Vec<_>>(), &mut |_, _| {});
    let (cpu, wall) = (processor_seconds() - cpu, wall.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "rows and bytes are far below 2^53")]
    let mean = values.iter().filter_map(|values| values[0]).sum::<f64>() / values.len() as f64;
    #[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
    let peak = memory::peak().context("the system does not tell the peak of memory")? as f64 / f64::from(1 << 20);
    println!("{}", json!({ "cpu": cpu, "wall": wall, "mean": mean, "peak_mib": peak }));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    row::read(path, "rows")?.map(|item| Ok(item?.1)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
