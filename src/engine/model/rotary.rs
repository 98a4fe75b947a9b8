//! Rotary positions and their scalings, in the words of transformers 4 (`rope_theta`, `rope_scaling`) and 5
//! (`rope_parameters`).

use super::settings::Settings;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::f64::consts::PI;

/// Which numbers of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Number `i` of the first half with number `i` of the second half.
    Halves,
    /// Each with its neighbour.
    Neighbours,
}

/// Rotary positions (arXiv 2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Angle per position of every pair; twice as many numbers of a head turn, from its beginning on.
    pub frequencies: Vec<f32>,
    /// What turned numbers are multiplied by.
    pub factor: f32,
    /// Which numbers turn together.
    pub pairing: Pairing,
}

/// What a family says about its rotary positions besides the tables of `config.json`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Share of a head that turns.
    pub share: f64,
    /// Which numbers turn together.
    pub pairing: Pairing,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { theta: 10_000.0, share: 1.0, pairing: Pairing::Halves }
    }
}

impl Rotary {
    /// Reads the tables of a `config.json`. Positions that are stretched only beyond some length bring the length up to
    /// which they are not: a model must not turn the same token in another way because its text went on.
    pub(super) fn read(
        json: Settings<'_>,
        head_dim: usize,
        max_positions: usize,
        defaults: Defaults,
    ) -> Result<(Self, usize)> {
        let table = ["rope_parameters", "rope_scaling"].into_iter().find(|name| json.get(name).is_object());
        let table = Settings(table.map_or(&Value::Null, |name| json.get(name)));
        let theta = table.optional_real("rope_theta")?.or(json.optional_real("rope_theta")?);
        let defaults = Defaults { theta: theta.unwrap_or(defaults.theta), ..defaults };
        Self::of_table(json, table, head_dim, max_positions, defaults)
    }

    /// The same of one table, which wins over the defaults.
    pub(super) fn of_table(
        json: Settings<'_>,
        table: Settings<'_>,
        head_dim: usize,
        max_positions: usize,
        defaults: Defaults,
    ) -> Result<(Self, usize)> {
        let theta = table.real_or("rope_theta", defaults.theta)?;
        let share = match table.optional_real("partial_rotary_factor")? {
            Some(share) => share,
            None => json.real_or("partial_rotary_factor", defaults.share)?,
        };
        ensure!(theta > 1.0, "`rope_theta` is {theta}: expected a number above 1");
        ensure!(share > 0.0 && share <= 1.0, "`partial_rotary_factor` is {share}: expected a share of 1");
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let dim = (head_dim as f64 * share) as usize;
        // Of an odd number of numbers the last one turns with the one behind it.
        ensure!(
            dim >= 1 && 2 * dim.div_ceil(2) <= head_dim,
            "{dim} of {head_dim} numbers of a head turn with their position: they make no pairs"
        );
        let plain = Plain { theta, dim, original: original(json, table, max_positions)?, max_positions };
        let kind = match table.optional_text("rope_type")? {
            None => table.optional_text("type")?,
            named => named,
        };
        let kind = kind.unwrap_or("default");
        let known = |(frequencies, factor): (Vec<f32>, f64)| (frequencies, factor, max_positions);
        let (frequencies, factor, positions) = match kind {
            "default" => known((plain.frequencies(), 1.0)),
            "linear" => known((plain.linear(table)?, 1.0)),
            // Stretched only beyond `max_position_embeddings`, which no text here goes.
            "dynamic" => known((plain.frequencies(), 1.0)),
            "llama3" => known((plain.llama3(table)?, 1.0)),
            "yarn" => known(plain.yarn(table)?),
            "longrope" | "su" => {
                let (frequencies, factor) = plain.longrope(table)?;
                (frequencies, factor, max_positions.min(plain.original))
            }
            _ => bail!("`rope_type` is `{kind}`: known are default, linear, dynamic, llama3, yarn and longrope"),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
        let rotary = Self { frequencies, factor: factor as f32, pairing: defaults.pairing };
        Ok((rotary, positions))
    }
}

/// The length that a model was trained with before its positions were stretched.
fn original(json: Settings<'_>, table: Settings<'_>, max_positions: usize) -> Result<usize> {
    const NAME: &str = "original_max_position_embeddings";
    let of_model = json.optional_number(NAME)?;
    Ok(of_model.or(table.optional_number(NAME)?).unwrap_or(max_positions))
}

/// Rotary positions before they are stretched.
struct Plain {
    theta: f64,
    dim: usize,
    original: usize,
    max_positions: usize,
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "widths are small, models are f32")]
impl Plain {
    /// Numbers that turn together.
    fn pairs(&self) -> usize {
        self.dim.div_ceil(2)
    }

    fn wavelengths(&self) -> impl Iterator<Item = f32> {
        let (theta, dim) = (self.theta as f32, self.dim as f32);
        (0..self.pairs()).map(move |i| theta.powf((2 * i) as f32 / dim))
    }

    fn frequencies(&self) -> Vec<f32> {
        self.wavelengths().map(|wavelength| 1.0 / wavelength).collect()
    }

    fn linear(&self, table: Settings<'_>) -> Result<Vec<f32>> {
        let factor = table.real("factor")? as f32;
        Ok(self.frequencies().into_iter().map(|frequency| frequency / factor).collect())
    }

    /// Long waves stretched, short ones left, those between blended (Llama 3.1).
    fn llama3(&self, table: Settings<'_>) -> Result<Vec<f32>> {
        let [factor, low, high] = ["factor", "low_freq_factor", "high_freq_factor"].map(|name| table.real(name));
        let (factor, low, high, original) = (factor?, low?, high?, self.original as f64);
        let stretch = |frequency: f32| {
            let wave = 2.0 * PI / f64::from(frequency);
            if wave < original / high {
                return frequency;
            }
            if wave > original / low {
                return frequency / factor as f32;
            }
            let smooth = (original / wave - low) / (high - low);
            ((1.0 - smooth) * f64::from(frequency) / factor + smooth * f64::from(frequency)) as f32
        };
        Ok(self.frequencies().into_iter().map(stretch).collect())
    }

    /// YaRN (arXiv 2309.00071): as `llama3`, by pair, and with longer vectors.
    fn yarn(&self, table: Settings<'_>) -> Result<(Vec<f32>, f64)> {
        let (original, dim) = (self.original as f64, self.dim as f64);
        let factor = table.optional_real("factor")?.unwrap_or(self.max_positions as f64 / original);
        let length = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let scales = [table.real_or("mscale", 0.0)?, table.real_or("mscale_all_dim", 0.0)?];
        let attention_factor = match table.optional_real("attention_factor")? {
            Some(given) => given,
            None if scales.iter().all(|scale| *scale != 0.0) => length(scales[0]) / length(scales[1]),
            None => length(1.0),
        };
        let or_default = |name: &str, default: f64| -> Result<f64> {
            Ok(table.optional_real(name)?.filter(|value| *value != 0.0).unwrap_or(default))
        };
        let pair = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (pair(or_default("beta_fast", 32.0)?), pair(or_default("beta_slow", 1.0)?));
        if table.flag("truncate", true)? {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let stretch = |(i, wavelength): (usize, f32)| {
            let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
            1.0 / (factor as f32 * wavelength) * stretched + 1.0 / wavelength * (1.0 - stretched)
        };
        Ok((self.wavelengths().enumerate().map(stretch).collect(), attention_factor))
    }

    /// LongRoPE (arXiv 2402.13753) for texts within the length that the model was trained with.
    fn longrope(&self, table: Settings<'_>) -> Result<(Vec<f32>, f64)> {
        let factors = table.get("short_factor").as_array().context("`short_factor` is missing")?;
        ensure!(
            factors.len() == self.pairs(),
            "`short_factor` has {} numbers for {} pairs of a head",
            factors.len(),
            self.pairs()
        );
        let original = self.original as f64;
        let factor = table.optional_real("factor")?.unwrap_or(self.max_positions as f64 / original);
        let attention_factor = match table.optional_real("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        let stretch = |(wavelength, factor): (f32, &Value)| {
            let factor = factor.as_f64().context("`short_factor` holds what is no number")?;
            Ok(1.0 / (factor as f32 * wavelength))
        };
        Ok((self.wavelengths().zip(factors).map(stretch).collect::<Result<_>>()?, attention_factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: &Value, head_dim: usize) -> Result<(Rotary, usize)> {
        Rotary::read(Settings(json), head_dim, 256, Defaults::default())
    }

    #[test]
    fn old_and_new_words_say_the_same() {
        let scaling = json!({ "type": "linear", "factor": 4.0 });
        let old = json!({ "rope_theta": 500.0, "rope_scaling": scaling });
        let new = json!({ "rope_parameters": { "rope_theta": 500.0, "rope_type": "linear", "factor": 4.0 } });
        assert_eq!(read(&old, 8).unwrap(), read(&new, 8).unwrap());
        let (plain, _) = read(&json!({ "rope_theta": 500.0 }), 8).unwrap();
        let (stretched, _) = read(&new, 8).unwrap();
        for (plain, stretched) in plain.frequencies.iter().zip(&stretched.frequencies) {
            assert_eq!(plain / 4.0, *stretched);
        }
        let dynamic = json!({ "rope_theta": 500.0, "rope_scaling": { "type": "dynamic", "factor": 4.0 } });
        assert_eq!(read(&dynamic, 8).unwrap().0, plain);
        let partial = json!({ "rope_theta": 500.0, "partial_rotary_factor": 0.5 });
        assert_eq!(read(&partial, 8).unwrap().0.frequencies.len(), 2);
        // Three numbers: 1 and θ^(-2/3), as transformers has it.
        let odd = read(&json!({ "rope_theta": 512.0, "partial_rotary_factor": 0.4 }), 8).unwrap().0;
        assert_close(&odd.frequencies, &[1.0, 1.0 / 64.0]);
        assert!(read(&json!({}), 7).is_err());
    }

    fn assert_close(actual: &[f32], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((f64::from(*actual) / expected - 1.0).abs() < 1e-6, "{actual} is not {expected}");
        }
    }

    /// The formulas of transformers' `modeling_rope_utils.py`, worked out in double precision for heads of 8 numbers:
    /// wavelengths 1, 10, 100, 1000.
    #[test]
    fn waves_are_stretched_by_their_length() {
        let llama3 = json!({ "rope_parameters": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }});
        // Periods 6.28 (below 64 / 4), 62.8 (between), 628 and 6283 (above 64).
        let smooth = (64.0 / (20.0 * PI) - 1.0) / 3.0;
        let between = (1.0 - smooth) * 0.1 / 8.0 + smooth * 0.1;
        assert_close(&read(&llama3, 8).unwrap().0.frequencies, &[1.0, between, 0.01 / 8.0, 0.001 / 8.0]);

        let yarn = json!({ "rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
        }});
        let (rotary, positions) = read(&yarn, 8).unwrap();
        // From pair floor(8 ln(64 / 64π) / 2 ln 10^4) → 0 on, to pair ceil(8 ln(64 / 2π) / 2 ln 10^4) = 2.
        assert_close(&rotary.frequencies, &[1.0, 0.5 * 0.1 + 0.5 * 0.1 / 4.0, 0.01 / 4.0, 0.001 / 4.0]);
        assert_close(&[rotary.factor], &[0.1 * 4f64.ln() + 1.0]);
        assert_eq!(positions, 256);

        let longrope = json!({ "original_max_position_embeddings": 64, "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 2.0, 1.0, 4.0], "long_factor": [1.0, 8.0, 9.0, 9.0],
        }});
        let (rotary, positions) = read(&longrope, 8).unwrap();
        assert_close(&rotary.frequencies, &[1.0, 0.05, 0.01, 0.00025]);
        assert_close(&[rotary.factor], &[(1.0 + 4f64.ln() / 64f64.ln()).sqrt()]);
        // Beyond, every token would turn in another way.
        assert_eq!(positions, 64);
    }

    #[test]
    fn what_is_unknown_or_missing_is_named() {
        let cases = [
            (json!({ "rope_parameters": { "rope_type": "spiral" } }), "`spiral`"),
            (json!({ "rope_scaling": { "type": "linear" } }), "`factor` is missing"),
            (json!({ "partial_rotary_factor": 0.1 }), "0 of 8 numbers of a head"),
            (json!({ "rope_theta": "many" }), "`rope_theta` is `\"many\"`"),
        ];
        for (json, expected) in cases {
            let error = format!("{:#}", read(&json, 8).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
