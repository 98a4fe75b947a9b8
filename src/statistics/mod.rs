//! Statistics of plain numbers: pure functions, each with its source. What is missing is NaN; what is not defined is `None`.

mod agreement;
pub mod bootstrap;
mod correlation;
mod describe;
mod distribution;
mod grouped;
mod kendall;
mod krippendorff;
mod paired;
mod rank;
mod resample;
mod sample;
mod series;
#[cfg(test)]
mod tests;
mod wilcoxon;

pub use agreement::{Weights, cohen_kappa, fleiss_kappa};
pub use correlation::{Correlation, Tested, complete};
pub use describe::{CONFIDENCE, Summary, mean, median, quantile, std, summarise};
pub use grouped::{Averaged, averaged, means};
pub use krippendorff::{Level, krippendorff};
pub use paired::{McNemar, bootstrap_p, holm, permutation, student};
pub use rank::{Ties, ranks};
pub use resample::Units;
pub use sample::Sampling;
pub use series::{relative, smooth};
pub use wilcoxon::wilcoxon;
