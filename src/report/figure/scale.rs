//! Where values stand on an axis, and which of them are written there.

use super::text;

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

/// A symmetric-logarithmic axis is linear below this part of its greatest value, if values come that near to 0.
const LEAST_PART: f64 = 1e-5;

/// An axis: values from `low` to `high`, ticks where they help.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    /// Symlog: the least size of a value that is not 0; below it the axis is about linear.
    unit: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Values with a tick.
    pub(super) ticks: Vec<f64>,
    /// What is written at the ticks.
    pub(super) texts: Vec<String>,
    /// Whether the ticks are names of categories, of which none may be left out.
    pub(super) named: bool,
}

impl Axis {
    /// The axis of points that stand at `values`; few values are all written.
    pub(super) fn of_values(values: impl Iterator<Item = f64>, scale: Scale) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (low, high) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(1.0));
        let mut axis = Self::new(scale, unit_of(&values, low, high), low, high);
        match scale {
            Scale::Linear if values.len() > OWN_TICKS => axis.set_steps(nice_step((high - low) / 5.0)),
            Scale::Log | Scale::Symlog if values.len() > OWN_TICKS => axis.set_ticks(axis.round_ticks()),
            _ => axis.set_ticks(values),
        }
        axis
    }

    /// The axis of `values` that can be anything, from a round number to a round number. It shows 0 where that is near, and
    /// what lies within 0 to 1 stays there.
    pub(super) fn of_range(values: impl Iterator<Item = f64>, scale: Scale) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(1.0));
        match scale {
            Scale::Linear => Self::linear(low, high),
            Scale::Log | Scale::Symlog => {
                let unit = unit_of(&values, low, high);
                let mut axis = Self::new(scale, unit, low, high);
                let margin = (axis.warp(high) - axis.warp(low)).max(0.1) * 0.04;
                let (warped_low, warped_high) = (axis.warp(low) - margin, axis.warp(high) + margin);
                (axis.low, axis.high) = (axis.unwarp(warped_low), axis.unwarp(warped_high));
                axis.set_ticks(axis.round_ticks());
                axis
            }
        }
    }

    /// The axis of categories, which stand at 0, 1, 2 and so on.
    pub(super) fn of_names(names: Vec<String>) -> Self {
        let mut axis = Self::new(Scale::Linear, 1.0, -0.5, names.len() as f64 - 0.5);
        axis.ticks = (0..names.len()).map(|place| place as f64).collect();
        axis.texts = names;
        axis.named = true;
        axis
    }

    /// The axis of exactly these ends.
    pub(super) fn within(low: f64, high: f64) -> Self {
        let mut axis = Self::new(Scale::Linear, 1.0, low, high);
        axis.set_steps(if high > low { nice_step((high - low) / 5.0) } else { 1.0 });
        axis
    }

    fn new(scale: Scale, unit: f64, low: f64, high: f64) -> Self {
        Self { scale, unit, low, high, ticks: Vec::new(), texts: Vec::new(), named: false }
    }

    fn linear(low: f64, high: f64) -> Self {
        let bounded = low >= 0.0 && high <= 1.0;
        let size = low.abs().max(high.abs());
        let (mut low, mut high) = match high - low <= 1e-9 * size {
            true if size == 0.0 => (-0.1, 0.1),
            true => (low - 0.1 * size, high + 0.1 * size),
            false => (low, high),
        };
        if low > 0.0 && low < 0.4 * high {
            low = 0.0;
        }
        let step = nice_step((high - low) / 5.0);
        low = (low / step + 1e-9).floor() * step;
        high = (high / step - 1e-9).ceil() * step;
        if bounded {
            (low, high) = (low.max(0.0), high.min(1.0));
        }
        let mut axis = Self::new(Scale::Linear, 1.0, low, high);
        axis.set_steps(step);
        axis
    }

    fn set_ticks(&mut self, ticks: Vec<f64>) {
        self.texts = ticks.iter().map(|tick| text::number(*tick)).collect();
        self.ticks = ticks;
    }

    /// Ticks at the multiples of `step`, with equally many decimals.
    fn set_steps(&mut self, step: f64) {
        self.ticks = steps(self.low, self.high, step);
        let texts: Vec<String> = self.ticks.iter().map(|tick| text::number(*tick)).collect();
        let decimals = |text: &String| text.split_once('.').map_or(0, |(_, tail)| tail.len());
        let most = texts.iter().map(decimals).max().unwrap_or(0);
        let plain = !texts.iter().any(|text| text.contains('e'));
        let even = |tick: &f64| text::decimals(*tick, most);
        self.texts = if plain { self.ticks.iter().map(even).collect() } else { texts };
    }

    /// Where `value` stands: 0 at the axis' start, 1 at its end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.warp(self.low), self.warp(self.high));
        if high > low { (self.warp(value) - low) / (high - low) } else { 0.5 }
    }

    /// The value on the axis that is nearest to `value`.
    pub(super) fn clamp(&self, value: f64) -> f64 {
        value.max(self.low).min(self.high)
    }

    /// What is said of the scale beside the axis' name.
    pub(super) fn remark(&self) -> &'static str {
        match self.scale {
            Scale::Linear => "",
            Scale::Log => " (log scale)",
            Scale::Symlog => " (symmetric log scale)",
        }
    }

    fn warp(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Symlog => value.signum() * (1.0 + value.abs() / self.unit).log10(),
        }
    }

    fn unwarp(&self, place: f64) -> f64 {
        match self.scale {
            Scale::Linear => place,
            Scale::Log => 10_f64.powf(place),
            Scale::Symlog => place.signum() * (10_f64.powf(place.abs()) - 1.0) * self.unit,
        }
    }

    /// Powers of ten on the axis, and 0 and their negatives where those are: all, or where there are many every second or
    /// third; where there are few, 2 and 5 times them too; where that is not enough, steps.
    fn round_ticks(&self) -> Vec<f64> {
        let times = |factors: &[f64], every: i32| -> Vec<f64> {
            let powers = (-300..=300).filter(|power| power % every == 0).map(|power| 10_f64.powi(power));
            let sizes: Vec<f64> = powers.flat_map(|power| factors.iter().map(move |factor| factor * power)).collect();
            let negatives = sizes.iter().rev().map(|size| -size);
            let all = negatives.chain([0.0]).chain(sizes.iter().copied());
            let fits = |tick: &f64| {
                let has_place = match self.scale {
                    Scale::Symlog => tick.abs() >= self.unit * 0.999 || *tick == 0.0,
                    Scale::Linear | Scale::Log => *tick > 0.0,
                };
                has_place && self.contains(*tick)
            };
            all.filter(fits).collect()
        };
        let fine = times(&[1.0, 2.0, 5.0], 1);
        let candidates = [fine.clone(), times(&[1.0], 1), times(&[1.0], 2), times(&[1.0], 3), times(&[1.0], 10)];
        match candidates.into_iter().find(|ticks| ticks.len() <= OWN_TICKS) {
            Some(ticks) if ticks.len() >= 2 => ticks,
            _ if self.high > self.low && fine.len() < 2 => {
                let step = nice_step((self.high - self.low) / 4.0);
                steps(self.low, self.high, step).into_iter().filter(|tick| self.contains(*tick)).collect()
            }
            _ => vec![self.low, self.high],
        }
    }

    fn contains(&self, tick: f64) -> bool {
        (self.low * (1.0 - 1e-9)..=self.high * (1.0 + 1e-9)).contains(&tick) || (self.low..=self.high).contains(&tick)
    }
}

/// The least size of a value that is not 0, but no less than a small part of the greatest.
fn unit_of(values: &[f64], low: f64, high: f64) -> f64 {
    let least = values.iter().map(|x| x.abs()).filter(|x| *x > 0.0).fold(f64::INFINITY, f64::min);
    let greatest = low.abs().max(high.abs());
    if least.is_finite() { least.max(greatest * LEAST_PART) } else { 1.0 }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    // Of values that differ by almost nothing the power would be 0, and their places none.
    let power = 10_f64.powf(rough.log10().floor()).max(f64::MIN_POSITIVE);
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

fn steps(low: f64, high: f64, step: f64) -> Vec<f64> {
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first).clamp(0.0, 100.0) as u32;
    (0..=count).map(|i| (first + f64::from(i)) * step).collect()
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
        let wide = Axis::of_range([1e-30, 1e30].into_iter(), Scale::Log);
        assert_eq!(wide.texts, ["1e\u{2212}30", "1e\u{2212}20", "1e\u{2212}10", "1", "1e10", "1e20", "1e30"]);
        let narrow = Axis::of_range([0.021, 0.047].into_iter(), Scale::Log);
        assert!(narrow.ticks.len() >= 2 && narrow.ticks.iter().all(|tick| (0.02..0.05).contains(tick)), "{narrow:?}");
    }

    #[test]
    fn the_axis_of_a_metric_stays_within_what_that_can_be() {
        let axis = Axis::of_range([0.03, 0.97].into_iter(), Scale::Linear);
        assert_eq!((axis.low, axis.high), (0.0, 1.0));
        assert_eq!(axis.texts, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let near = Axis::of_range([0.9, 0.93].into_iter(), Scale::Linear);
        assert!(near.low >= 0.89 && near.high <= 0.94, "{near:?}");
    }

    #[test]
    fn sizes_far_from_one_are_told_apart() {
        for size in [1e-12, 1e12, 1e200] {
            let axis = Axis::of_range([3.0 * size, 4.0 * size].into_iter(), Scale::Linear);
            assert!(axis.place(3.0 * size) < 0.1 && axis.place(4.0 * size) > 0.9, "{axis:?}");
            assert!(axis.ticks.len() >= 4, "{axis:?}");
        }
    }

    #[test]
    fn one_value_stands_in_the_middle() {
        let axis = Axis::of_values([5.0].into_iter(), Scale::Log);
        assert_eq!(axis.place(5.0), 0.5);
        assert!(Axis::of_range([1.0].into_iter(), Scale::Linear).place(1.0) > 0.9);
        let places = Axis::of_names(vec!["a".to_string(), "b".to_string()]);
        assert_eq!((places.place(0.0), places.place(1.0)), (0.25, 0.75));
    }
}
