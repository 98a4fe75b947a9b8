//! What a statistic is made of.

use super::super::Names;
use crate::statistics::{Correlation, Level, Weights};
use serde::{Deserialize, Serialize};

/// A statistic of the rows: everything that can change a byte of its lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticRecipe {
    /// What the person calls it.
    pub name: String,
    /// Axes and columns whose values make groups, with a value each.
    pub by: Names,
    /// Which rows count.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// What is computed.
    pub what: What,
}

/// What is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// How two columns go together.
    Correlation(CorrelationRecipe),
    /// Whether systems differ.
    Test(TestRecipe),
    /// How far raters agree.
    Agreement(AgreementRecipe),
}

crate::words! {
    /// A kind of correlation.
    pub enum CorrelationKind {
        /// Pearson's r: of the values.
        Pearson = "pearson",
        /// Spearman's ρ: of the ranks, equal values with the mean of theirs.
        Spearman = "spearman",
        /// Kendall's τ-b: of the order of each two rows.
        Kendall = "kendall",
    }
}

crate::words! {
    /// A test between two systems on the same rows, two-sided.
    pub enum TestKind {
        /// Student's t test of the differences.
        PairedT = "paired_t",
        /// Wilcoxon's signed-rank test.
        Wilcoxon = "wilcoxon",
        /// Random signs of the differences; all of them where there are few.
        Permutation = "permutation",
        /// Draws of rows, with replacement, moved so that their mean difference is 0.
        PairedBootstrap = "paired_bootstrap",
        /// McNemar's test of right and wrong answers (values of 1 and 0).
        McNemar = "mcnemar",
    }
}

crate::words! {
    /// How far raters agree.
    pub enum AgreementKind {
        /// The part of the items on which two raters say the same.
        Accuracy = "accuracy",
        /// Cohen's kappa of two raters.
        Cohen = "cohen_kappa",
        /// Fleiss' kappa of any number of raters without gaps.
        Fleiss = "fleiss_kappa",
        /// Krippendorff's alpha of any number of raters, with gaps.
        Krippendorff = "krippendorff",
    }
}

/// A correlation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorrelationRecipe {
    /// Which.
    pub kind: CorrelationKind,
    /// Of what.
    pub of: Pairs,
    /// Computed within each group of these and averaged; groups in which it is not defined are passed over.
    pub within: Names,
    /// Of the means of these groups, not of rows.
    pub means_of: Names,
    /// Of random samples, averaged.
    pub sample: Option<SampleRecipe>,
    /// A confidence interval.
    pub interval: Option<IntervalRecipe>,
}

/// What is correlated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// Each of the first columns with each of the second; without those, each two of the first, both ways round.
    Columns(Names, Option<Names>),
    /// What each two raters say of the items that they share; the value is the mean over these pairs of raters.
    Raters(Ratings),
}

/// One line for each rating.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratings {
    /// The column that says who rated.
    pub rater: String,
    /// The columns that say what was rated.
    pub item: Names,
    /// The column of the rating.
    pub value: String,
    /// Two raters count if they share so many items.
    pub min_shared: usize,
}

/// A test between systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestRecipe {
    /// Which.
    pub kind: TestKind,
    /// The metrics that are tested, one after the other.
    pub metrics: Names,
    /// The axis or column whose values are the systems.
    pub compare: String,
    /// The system that all others are held against; without it, each two are.
    pub to: Option<serde_json::Value>,
    /// What makes rows of two systems a pair: by default the row id and all other axes.
    pub pair: Option<Names>,
    /// McNemar's test by the binomial distribution, not by χ².
    pub exact: Option<bool>,
    /// Random draws.
    pub draws: Option<u64>,
    /// Seed of the draws.
    pub seed: Option<u64>,
    /// A confidence interval of the mean difference.
    pub interval: Option<IntervalRecipe>,
}

/// How far raters agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementRecipe {
    /// Which.
    pub kind: AgreementKind,
    /// Whose ratings.
    pub of: Raters,
    /// How bad it is to take one category for another (Cohen's kappa).
    pub weights: Option<WeightsWord>,
    /// What can be said of two ratings (Krippendorff's alpha).
    pub level: Option<LevelWord>,
    /// A confidence interval.
    pub interval: Option<IntervalRecipe>,
}

/// Whose ratings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raters {
    /// A column for each rater. Kinds for two raters have a line for each two, or for each with the one named second.
    Columns(Names, Option<String>),
    /// A line for each rating. Kinds for two raters are averaged over each two of them.
    Long(Ratings),
}

crate::settings! {
    /// Random samples, drawn again and again.
    pub struct SampleRecipe {
        /// How many samples: of each group, or in all if each is of one group at random.
        draws: u64 = 1000 => 1..=10_000_000,
        /// Rows in each.
        size: usize => 2..=1_000_000,
        /// Whether a row can be drawn twice.
        replace: bool = false,
        /// Axes and columns whose values make the groups that samples are drawn within. One of all rows by default.
        group: Names = Names::default(),
        /// Whether each draw takes one group at random, not every group in turn.
        one_group: bool = false,
        /// Seed of the draws.
        seed: u64 = 0,
    }
}

crate::settings! {
    /// A 95% confidence interval by the bootstrap.
    pub struct IntervalRecipe {
        /// How it is made of the draws.
        method: Method,
        /// How many draws.
        draws: u64 = 1000 => 100..=1_000_000,
        /// What is drawn: `row`, or axes and columns whose values are drawn with all their rows, such as `run`; with `row`
        /// beside them, those first and then rows within each.
        unit: Names = Names(vec!["row".to_string()]),
        /// Seed of the draws.
        seed: u64 = 0,
    }
}

crate::words! {
    /// How an interval is made of draws.
    pub enum Method {
        /// Between the percentiles.
        Percentile = "percentile",
        /// The same, corrected for bias and for skew (bias-corrected and accelerated).
        Bca = "bca",
    }
}

crate::words! {
    /// How bad it is to take one category for another.
    pub enum WeightsWord {
        /// By how many categories they lie apart.
        Linear = "linear",
        /// By its square.
        Quadratic = "quadratic",
    }
}

crate::words! {
    /// What can be said of two ratings.
    pub enum LevelWord {
        /// Whether they are equal.
        Nominal = "nominal",
        /// Which is greater.
        Ordinal = "ordinal",
        /// How far they lie apart.
        Interval = "interval",
        /// How far they lie apart, against their size.
        Ratio = "ratio",
    }
}

impl CorrelationKind {
    /// The function.
    pub fn function(self) -> Correlation {
        match self {
            Self::Pearson => Correlation::Pearson,
            Self::Spearman => Correlation::Spearman,
            Self::Kendall => Correlation::Kendall,
        }
    }
}

impl AgreementRecipe {
    /// The weights of Cohen's kappa.
    pub fn weights(&self) -> Weights {
        match self.weights {
            None => Weights::None,
            Some(WeightsWord::Linear) => Weights::Linear,
            Some(WeightsWord::Quadratic) => Weights::Quadratic,
        }
    }

    /// The level of Krippendorff's alpha.
    pub fn level(&self) -> Level {
        match self.level {
            None | Some(LevelWord::Nominal) => Level::Nominal,
            Some(LevelWord::Ordinal) => Level::Ordinal,
            Some(LevelWord::Interval) => Level::Interval,
            Some(LevelWord::Ratio) => Level::Ratio,
        }
    }

    /// Whether ratings have an order, or a size: then they must be numbers.
    pub fn needs_numbers(&self) -> bool {
        self.weights.is_some() || self.level() != Level::Nominal
    }
}

impl StatisticRecipe {
    /// The kind by its name in the manifest.
    pub fn kind(&self) -> String {
        match &self.what {
            What::Correlation(correlation) => word(correlation.kind),
            What::Test(test) => word(test.kind),
            What::Agreement(agreement) => word(agreement.kind),
        }
    }

    /// Axes and columns that must be there, each with its setting; `x`, `y` and the like may name a scorer instead, for all
    /// of its metrics.
    pub fn names(&self) -> Vec<(&'static str, &str)> {
        let mut names: Vec<_> = each("by", &self.by).collect();
        match &self.what {
            What::Correlation(correlation) => {
                match &correlation.of {
                    Pairs::Columns(x, y) => {
                        names.extend(each("x", x));
                        names.extend(y.iter().flat_map(|y| each("y", y)));
                    }
                    Pairs::Raters(ratings) => names.extend(ratings.names()),
                }
                names.extend(each("within", &correlation.within));
                names.extend(each("means_of", &correlation.means_of));
                names.extend(correlation.sample.iter().flat_map(|sample| each("sample.group", &sample.group)));
                names.extend(correlation.interval.iter().flat_map(IntervalRecipe::names));
            }
            What::Test(test) => {
                names.extend(each("x", &test.metrics));
                names.push(("compare", test.compare.as_str()));
                names.extend(test.pair.iter().flat_map(|pair| each("pair", pair)));
                names.extend(test.interval.iter().flat_map(IntervalRecipe::names));
            }
            What::Agreement(agreement) => {
                match &agreement.of {
                    Raters::Columns(raters, to) => {
                        names.extend(each("raters", raters));
                        names.extend(to.iter().map(|to| ("to", to.as_str())));
                    }
                    Raters::Long(ratings) => names.extend(ratings.names()),
                }
                names.extend(agreement.interval.iter().flat_map(IntervalRecipe::names));
            }
        }
        names
    }
}

impl Ratings {
    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let lone = [("rater", self.rater.as_str()), ("value", self.value.as_str())];
        lone.into_iter().chain(each("item", &self.item))
    }
}

impl IntervalRecipe {
    /// The columns of the unit that are not rows.
    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        each("interval.unit", &self.unit).filter(|(_, name)| *name != super::super::ROW)
    }
}

fn each<'a>(setting: &'static str, names: &'a Names) -> impl Iterator<Item = (&'static str, &'a str)> {
    names.0.iter().map(move |name| (setting, name.as_str()))
}

/// A word as it stands in the manifest.
pub(super) fn word(word: impl Serialize) -> String {
    serde_json::to_value(word).ok().and_then(|word| word.as_str().map(str::to_string)).unwrap_or_default()
}
