//! Speed of scorers on rows with `prediction` and `output`, for `benches/scorers.py`, which runs it beside the Python
//! references.
//!
//! `scorers time FILE SCORER [SETTINGS]` (settings as in a manifest: `stemmer = true`) scores all rows again and again for a
//! second or more and prints JSON: rows, and processor seconds for them. `scorers values FILE SCORER [SETTINGS]` prints the
//! values of each row, a line each.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use anyhow::{Context as _, bail};
use serde_json::json;
use std::borrow::Cow;
use std::path::Path;
use titer::diagnostic::{Problems, Sources};
use titer::row::{self, Row};
use titer::scorer::{self, Answer, Scorer, Work};
use titer::settings::{self, Fields};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [what, file, scorer, settings @ ..] = &arguments[..] else { bail!("which rows, by which scorer?") };
    let mut scorer = build(scorer, &settings.join("\n"))?;
    let mut rows = Vec::new();
    for item in row::read(Path::new(file), file)? {
        let (_, row) = item?;
        let text = |column: &str| {
            Ok::<_, anyhow::Error>(
                row::text(&row, column).with_context(|| format!("a row has no `{column}`"))?.into_owned(),
            )
        };
        rows.push((text(row::PREDICTION)?, text(row::OUTPUT)?, row));
    }
    if what == "values" {
        return each(&mut *scorer, &rows, |values| println!("{}", json!(values)));
    }
    let (start, mut scored, mut seconds) = (processor_seconds(), 0, 0.0);
    while seconds < 1.0 {
        each(&mut *scorer, &rows, |values| {
            std::hint::black_box(values);
        })?;
        scored += rows.len();
        seconds = processor_seconds() - start;
    }
    println!("{}", json!({ "rows": scored, "cpu": seconds }));
    Ok(())
}

fn each(
    scorer: &mut dyn Scorer,
    rows: &[(String, String, Row)],
    mut take: impl FnMut(&[Option<f64>]),
) -> anyhow::Result<()> {
    for (prediction, reference, row) in rows {
        let references = [Cow::Borrowed(reference.as_str())];
        take(&scorer.score_row(&Answer { prediction, references: &references, row })?.values);
    }
    Ok(())
}

/// The scorer of that name, with settings as a manifest has them.
fn build(name: &str, settings: &str) -> anyhow::Result<Box<dyn Scorer>> {
    let definition = scorer::find(name).with_context(|| format!("no such scorer: `{name}`"))?;
    let (mut sources, mut problems) = (Sources::default(), Problems::default());
    let file = sources.add("settings", settings);
    let value = settings::parse(settings, file, &mut problems).context("these are no settings")?;
    let params = Fields::of(&value, &mut problems).and_then(|mut fields| {
        let params = definition.read_params(&mut fields, &mut problems);
        fields.finish(&mut problems)?;
        params
    });
    let problems: String = problems.into_vec().iter().map(|problem| sources.render(problem)).collect();
    match definition.work {
        Work::Rows(build) => build(params.context(problems)?),
        Work::WithFolder(with_folder) => (with_folder.build)(params.context(problems)?, None),
        _ => bail!("`{name}` does not work row by row"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
