//! Where values stand on an axis, and which of them are written there.

crate::words! {
    /// How the values of an axis are laid out.
    pub enum Scale {
        /// Equal differences, equal distances.
        Linear = "linear",
        /// Equal ratios, equal distances; values must be above 0.
        Log = "log",
        /// Logarithmic, but linear around 0, so that 0 has a place.
        Symlog = "symlog",
    }
}

/// Up to so many different values, each gets a tick of its own.
const OWN_TICKS: usize = 8;

/// An axis: values from `low` to `high`, ticks where they help.
#[derive(Debug)]
pub(super) struct Axis {
    scale: Scale,
    /// Symlog: the least size of a value that is not 0; below it the axis is about linear.
    unit: f64,
    low: f64,
    high: f64,
    /// Whether the ticks are multiples of a step.
    evenly_spaced: bool,
    /// Values with a tick.
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// The x axis of points that stand at `values`.
    pub(super) fn of_values(values: impl Iterator<Item = f64>, scale: Scale) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let unit = values.iter().map(|x| x.abs()).filter(|x| *x > 0.0).fold(f64::INFINITY, f64::min);
        let (low, high) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(1.0));
        let unit = if unit.is_finite() { unit } else { 1.0 };
        let mut axis = Self { scale, unit, low, high, evenly_spaced: false, ticks: Vec::new() };
        axis.ticks = match scale {
            _ if values.len() <= OWN_TICKS => values,
            Scale::Linear => steps(low, high, nice_step((high - low) / 5.0)),
            Scale::Log | Scale::Symlog => axis.decades(),
        };
        axis
    }

    /// The y axis for values from `low` to `high`. It shows 0 where that is near, and what lies within 0 to 1 stays there.
    pub(super) fn of_range(low: f64, high: f64) -> Self {
        let bounded = low >= 0.0 && high <= 1.0;
        let (mut low, mut high) = if high - low < 1e-9 { (low - 0.1, high + 0.1) } else { (low, high) };
        if low > 0.0 && low < 0.4 * high {
            low = 0.0;
        }
        let step = nice_step((high - low) / 5.0);
        low = (low / step + 1e-9).floor() * step;
        high = (high / step - 1e-9).ceil() * step;
        if bounded {
            (low, high) = (low.max(0.0), high.min(1.0));
        }
        Self { scale: Scale::Linear, unit: 1.0, low, high, evenly_spaced: true, ticks: steps(low, high, step) }
    }

    /// Where `value` stands: 0 at the axis' start, 1 at its end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.warp(self.low), self.warp(self.high));
        if high > low { (self.warp(value) - low) / (high - low) } else { 0.5 }
    }

    /// The value on the axis that is nearest to `value`.
    pub(super) fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// The ticks' values as texts. Those of multiples of a step have equally many decimals.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts: Vec<String> = self.ticks.iter().map(|tick| tick_text(*tick)).collect();
        let decimals = |text: &String| text.split_once('.').map_or(0, |(_, tail)| tail.len());
        let most = texts.iter().map(decimals).max().unwrap_or(0);
        let even = self.evenly_spaced && !texts.iter().any(|text| text.contains('e'));
        let pad = |text: String| {
            let (have, dot) = (decimals(&text), if text.contains('.') || most == 0 { "" } else { "." });
            format!("{text}{dot}{}", "0".repeat(most - have))
        };
        if even { texts.into_iter().map(pad).collect() } else { texts }
    }

    fn warp(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Symlog => value.signum() * (1.0 + value.abs() / self.unit).log10(),
        }
    }

    /// Powers of ten on the axis, and 0 and their negatives where those are.
    fn decades(&self) -> Vec<f64> {
        let most = self.low.abs().max(self.high.abs());
        let powers: Vec<f64> =
            (-300..=300).map(|e| 10_f64.powi(e)).filter(|p| (self.unit * 0.999..=most * 1.001).contains(p)).collect();
        let negatives = powers.iter().rev().map(|p| -p);
        let all = negatives.chain([0.0]).chain(powers.iter().copied());
        all.filter(|tick| (self.low..=self.high).contains(tick) && (self.scale == Scale::Symlog || *tick > 0.0))
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

fn steps(low: f64, high: f64, step: f64) -> Vec<f64> {
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first).clamp(0.0, 100.0) as u32;
    (0..=count).map(|i| (first + f64::from(i)) * step).collect()
}

/// A tick's value as text, as short as can be.
fn tick_text(value: f64) -> String {
    // Twelve digits hide what the multiplication by a step leaves behind (0.30000000000000004).
    let rounded: f64 = format!("{value:.11e}").parse().unwrap_or(value);
    let text = if rounded != 0.0 && (rounded.abs() >= 1e7 || rounded.abs() < 1e-4) {
        format!("{rounded:e}")
    } else {
        format!("{rounded}")
    };
    if rounded == 0.0 { "0".to_string() } else { text.replace('-', "\u{2212}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_a_place_on_a_symlog_axis_only() {
        let axis = Axis::of_values([0.0, 20.0, 80.0, 320.0].into_iter(), Scale::Symlog);
        assert_eq!(axis.ticks, [0.0, 20.0, 80.0, 320.0]);
        let places: Vec<f64> = axis.ticks.iter().map(|x| axis.place(*x)).collect();
        // log10(1), log10(2), log10(5), log10(17), as parts of the last.
        assert_eq!((places[0], places[3]), (0.0, 1.0));
        assert!((places[1] - 2_f64.log10() / 17_f64.log10()).abs() < 1e-12, "{places:?}");
        let linear = Axis::of_values([0.0, 20.0, 80.0].into_iter(), Scale::Linear);
        assert_eq!(linear.place(20.0), 0.25);
    }

    #[test]
    fn many_values_get_round_ticks() {
        let linear = Axis::of_values((0..50).map(f64::from), Scale::Linear);
        assert_eq!(linear.ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        let log = Axis::of_values((1..=12).map(|i| 2_f64.powi(i)), Scale::Log);
        assert_eq!(log.ticks, [10.0, 100.0, 1000.0]);
    }

    #[test]
    fn the_y_axis_stays_within_what_a_metric_can_be() {
        let axis = Axis::of_range(0.03, 0.97);
        assert_eq!((axis.low, axis.high), (0.0, 1.0));
        assert_eq!(axis.texts(), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let near = Axis::of_range(0.9, 0.93);
        assert!(near.low >= 0.89 && near.high <= 0.94, "{near:?}");
        assert_eq!(tick_text(-1500.0), "\u{2212}1500");
    }

    #[test]
    fn one_value_stands_in_the_middle() {
        let axis = Axis::of_values([5.0].into_iter(), Scale::Log);
        assert_eq!(axis.place(5.0), 0.5);
        assert!(Axis::of_range(1.0, 1.0).place(1.0) > 0.9);
    }
}
