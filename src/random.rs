//! The program's own random numbers: a function from (seed, purpose, index) to bits.
//!
//! Nothing is drawn from a hidden state, so a number depends neither on what was drawn before nor on threads. The
//! generator is SplitMix64 (Steele, Lea, Flood 2014), whose state is a counter, with a key that BLAKE3 makes of seed and
//! purpose.

/// SplitMix64's increment: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Random numbers for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    key: u64,
}

impl Random {
    /// The numbers of `seed` for `purpose`, a name that nothing else uses.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"titer random 1\0").update(&seed.to_le_bytes()).update(purpose.as_bytes());
        let mut key = [0; 8];
        hasher.finalize_xof().fill(&mut key);
        Self { key: u64::from_le_bytes(key) }
    }

    /// The numbers of one part of the purpose: a step, a row, a position.
    #[must_use]
    pub fn part(self, index: u64) -> Self {
        Self { key: mix(self.key ^ mix(index.wrapping_add(STEP))) }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP)))
    }

    /// A number of `0 ≤ x < 1`, uniform.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    pub fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }

    /// One of the numbers `0..count`; 0 of none.
    #[inline]
    pub fn below(self, index: u64, count: usize) -> usize {
        // A 128-bit product maps 64 bits onto a range with a bias below 2^-40 for any list that fits in memory.
        #[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below `count`")]
        let number = ((u128::from(self.bits(index)) * count as u128) >> 64) as usize;
        number
    }

    /// The numbers `0..count` in random order (Fisher and Yates).
    pub fn permutation(self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last as u64, last + 1));
        }
        order
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first numbers of the published generator from state 1234567.
        let random = Random { key: 1_234_567 };
        assert_eq!([random.bits(0), random.bits(1)], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn seeds_purposes_and_parts_are_apart() {
        let random = Random::new(1, "a");
        let others = [Random::new(2, "a"), Random::new(1, "b"), random.part(0), random.part(1), random.part(0).part(1)];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(random, *other);
            assert!(!others[..index].contains(other));
        }
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let random = Random::new(7, "normal");
        let numbers: Vec<f64> = (0..20_000).map(|index| random.normal(index)).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        // Three standard errors: 3 / sqrt(20,000) = 0.021, and sqrt(2) times that.
        assert!(mean.abs() < 0.021 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let order = Random::new(7, "order").permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    }
}
