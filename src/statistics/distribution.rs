//! What tests look up: the normal distribution, Student's and the binomial.
//!
//! statrs has them to about 1e-13 where arguments are small (but for `erfc`, to 1e-11 only, which is why the normal
//! distribution comes of the gamma function); where they are large, the logarithms of gamma functions leave 1e-10.

use statrs::function::beta::checked_beta_reg;
use statrs::function::erf::erfc_inv;
use statrs::function::gamma::checked_gamma_ur;
use std::f64::consts::SQRT_2;

/// The part of the standard normal distribution that lies below `z`.
pub fn normal_below(z: f64) -> f64 {
    let tail = normal_p(z) / 2.0;
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The value below which the part `probability` of the standard normal distribution lies.
pub fn normal_quantile(probability: f64) -> f64 {
    -SQRT_2 * erfc_inv(2.0 * probability)
}

/// How likely a standard normal number lies as far from 0 as `z`, on either side.
pub fn normal_p(z: f64) -> f64 {
    match z * z / 2.0 {
        0.0 => 1.0,
        f64::INFINITY => 0.0,
        half => checked_gamma_ur(0.5, half).unwrap_or(f64::NAN),
    }
}

/// How likely a number of Student's distribution with `freedom` degrees lies as far from 0 as `t`, on either side.
pub fn student_p(t: f64, freedom: f64) -> f64 {
    beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// How likely a correlation of `count` independent pairs of normal numbers lies as far from 0, on either side.
pub fn correlation_p(correlation: f64, count: usize) -> f64 {
    beta((count as f64 - 2.0) / 2.0, 0.5, (1.0 - correlation) * (1.0 + correlation))
}

/// How likely at most `heads` of `count` tosses of a coin are heads.
pub fn coin_at_most(heads: u64, count: u64) -> f64 {
    if heads >= count {
        return 1.0;
    }
    beta((count - heads) as f64, heads as f64 + 1.0, 0.5)
}

/// The regularised incomplete beta function.
fn beta(a: f64, b: f64, x: f64) -> f64 {
    checked_beta_reg(a, b, x).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_scipy_s() {
        // scipy 1.17: scipy.special.ndtr and ndtri
        for (z, expected) in [
            (-37.0, 5.725571222523927e-300),
            (-5.0, 2.866515718791933e-7),
            (-0.3, 0.382_088_577_811_047_4),
            (0.0, 0.5),
            (1.2, 0.8849303297782918),
            (f64::NEG_INFINITY, 0.0),
            (f64::INFINITY, 1.0),
        ] {
            let found = normal_below(z);
            assert!((found - expected).abs() <= 1e-12 * expected, "{z}: {found}");
            // A quantile knows a tail only as well as 1 − p does.
            let back = normal_quantile(expected);
            assert!((back - z).abs() < 1e-12 || back == z || z < -30.0, "{z}: {back}");
        }
    }
}
