//! Estimates of densities by Gaussian kernels.

/// A density: a mixture of normal distributions, one around each value.
///
/// Scott (1992), *Multivariate Density Estimation*: the kernels' standard deviation is that of the values times
/// n^(−1/5); as `scipy.stats.gaussian_kde`.
#[derive(Debug)]
pub(super) struct Density {
    /// Different values with their numbers, by size.
    values: Vec<(f64, f64)>,
    count: f64,
    width: f64,
}

impl Density {
    /// The density of sorted values. None where they have none: fewer than two, or all equal.
    pub(super) fn of(sorted: &[f64]) -> Option<Self> {
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        let size = sorted.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        // Equal values have a deviation of rounding.
        if sorted.len() < 2 || !deviation.is_finite() || deviation <= size * 1e-14 {
            return None;
        }
        let values = sorted.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as f64)).collect();
        Some(Self { values, count, width: deviation * count.powf(-0.2) })
    }

    /// The standard deviation of a kernel.
    pub(super) fn width(&self) -> f64 {
        self.width
    }

    /// The density at `x`.
    pub(super) fn at(&self, x: f64) -> f64 {
        let near = self.values.partition_point(|(value, _)| *value < x - 40.0 * self.width);
        let kernels = self.values[near..].iter().take_while(|(value, _)| *value <= x + 40.0 * self.width);
        let sum: f64 = kernels.map(|(value, count)| count * (-0.5 * ((x - value) / self.width).powi(2)).exp()).sum();
        sum / (self.count * self.width * (2.0 * std::f64::consts::PI).sqrt())
    }

    /// Its curve from `low` to `high` in `steps`.
    pub(super) fn curve(&self, low: f64, high: f64, steps: usize) -> Vec<(f64, f64)> {
        let place = |step: usize| low + (high - low) * step as f64 / steps as f64;
        (0..=steps).map(place).map(|x| (x, self.at(x))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCIPY: [(f64, f64); 6] = [
        (-1.0, 0.029445572410819788),
        (0.0, 0.23391089637284765),
        (0.4, 0.3037581756194809),
        (1.3, 0.2943334585831742),
        (2.0, 0.2777228969139666),
        (5.0, 0.0014583219947401768),
    ];
    const WIDTH: f64 = 0.6381374470646322;

    #[test]
    fn densities_equal_those_of_scipy() {
        let mut values = [0.1, 0.4, 0.4, 0.55, 0.9, 1.7, 2.0, 2.0, 2.0, 3.25];
        values.sort_by(f64::total_cmp);
        let density = Density::of(&values).unwrap();
        // scipy.stats.gaussian_kde(values)([-1, 0, 0.4, 1.3, 2, 5]), and its factor times numpy's std(ddof=1).
        for (x, expected) in SCIPY {
            // Sums are added up in another order.
            assert!((density.at(x) - expected).abs() <= 1e-12 * expected, "{x}: {} {expected}", density.at(x));
        }
        assert!((density.width() - WIDTH).abs() < 1e-14, "{}", density.width());
        let sum: f64 = density.curve(-5.0, 9.0, 2000).iter().map(|(_, y)| y * 14.0 / 2000.0).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn what_does_not_vary_has_no_density() {
        assert!(Density::of(&[]).is_none() && Density::of(&[1.0]).is_none());
        assert!(Density::of(&[0.1; 50]).is_none());
        assert!(Density::of(&[0.1, 0.2]).is_some());
    }
}
