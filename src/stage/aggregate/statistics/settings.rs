//! What a manifest says of statistics → recipes.

use super::super::super::{Expression, is_name};
use super::super::{Names, ROW};
use super::COLUMNS;
use super::recipe::*;
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{At, Decode, Fields, Schema, Value, ValueKind, schema};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// The settings of a table with a row for each rating.
const RATINGS: [&str; 4] = ["rater", "item", "value", "min_shared"];

/// The `statistics` table of an aggregate: named statistics, in the order of the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics(Vec<(String, At<StatisticForm>)>);

impl Decode for Statistics {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        Fields::of(value, problems)?;
        let read = |(key, value): &(crate::settings::Key, Value), problems: &mut Problems| {
            if !is_name(&key.name) {
                problems.at(key.span, format!("`{}` is no name: letters, digits, `_` and `-`", key.name));
            }
            Some((key.name.clone(), At::decode(value, problems)?))
        };
        let entries = value.as_table()?.entries.iter().map(|entry| read(entry, problems));
        // All first: every mistake is reported.
        let entries: Vec<_> = entries.collect();
        entries.into_iter().collect::<Option<_>>().map(Self)
    }

    fn schema() -> Schema {
        schema::map(&StatisticForm::schema())
    }
}

crate::form! {
    /// A statistic of the rows. Which settings it has depends on its kind.
    pub struct StatisticForm {
        /// What is computed.
        kind: Kind,
        /// Columns that are correlated with those of `y`, or with each other; metrics that a test is made of. A scorer's
        /// name stands for all of its metrics.
        x: Option<At<Names>>,
        /// Columns that those of `x` are correlated with. Without it, each two of `x` are.
        y: Option<At<Names>>,
        /// Axes and columns whose values make groups, with a value each.
        by: Option<At<Names>>,
        /// Which rows count: an expression over axes and columns, such as `n < 100`.
        r#where: Option<Expression>,
        /// Correlate within each group of these and take the mean; groups in which nothing is defined are counted as such.
        within: Option<At<Names>>,
        /// Correlate the means of these groups, not rows.
        means_of: Option<At<Names>>,
        /// Correlate small random samples and take the mean.
        sample: Option<At<SampleRecipe>>,
        /// A 95% interval by the bootstrap: `percentile`, `bca`, or a table. Of a test, that of the mean difference; with
        /// `sample`, between the percentiles of its draws.
        interval: Option<At<Interval>>,
        /// The axis or column whose values are the systems that a test compares.
        compare: Option<At<String>>,
        /// The system, or the rater's column, that all others are held against. Without it, each two are.
        to: Option<At<Json>>,
        /// Columns that make rows of two systems a pair; of several such rows of one system, the mean counts. By default the
        /// row id and all other axes.
        pair: Option<At<Names>>,
        /// Whether McNemar's test takes the binomial distribution, not χ² with continuity correction. By default true.
        exact: Option<At<bool>>,
        /// Random draws of a test. By default 10,000.
        draws: Option<At<u64>> => 100..=10_000_000,
        /// Seed of a test's draws. By default 0.
        seed: Option<At<u64>>,
        /// Columns of ratings, one for each rater.
        raters: Option<At<Names>>,
        /// Where each row is one rating: the column that says who rated.
        rater: Option<At<String>>,
        /// And the columns that say what was rated.
        item: Option<At<Names>>,
        /// And the column of the rating.
        value: Option<At<String>>,
        /// Two raters count if they share so many items. By default 2.
        min_shared: Option<At<usize>> => 1..=1_000_000,
        /// How bad it is to take one category for another in Cohen's kappa. By default as bad as any other.
        weights: Option<At<WeightsWord>>,
        /// What can be said of two ratings in Krippendorff's alpha. By default `nominal`.
        level: Option<At<LevelWord>>,
    }
}

/// What is computed, by the word that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A correlation.
    Correlation(CorrelationKind),
    /// A test between systems.
    Test(TestKind),
    /// Agreement of raters.
    Agreement(AgreementKind),
}

impl Kind {
    fn schemas() -> [Schema; 3] {
        [CorrelationKind::schema(), TestKind::schema(), AgreementKind::schema()]
    }

    fn word(self) -> String {
        match self {
            Self::Correlation(kind) => word(kind),
            Self::Test(kind) => word(kind),
            Self::Agreement(kind) => word(kind),
        }
    }
}

impl Decode for Kind {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        fn known<T: DeserializeOwned>(text: &str) -> Option<T> {
            serde_json::from_value(Json::from(text)).ok()
        }
        let text = String::decode(value, problems)?;
        let kind = known(&text).map(Self::Correlation).or_else(|| known(&text).map(Self::Test));
        let kind = kind.or_else(|| known(&text).map(Self::Agreement));
        if kind.is_none() {
            let schemas = Self::schemas();
            let words =
                schemas.iter().filter_map(|schema| schema["enum"].as_array()).flatten().filter_map(Json::as_str);
            problems.push(Diagnostic::at(value.span, format!("there is no statistic `{text}`")).suggest(&text, words));
        }
        kind
    }

    fn schema() -> Schema {
        schema::any_of(Self::schemas())
    }
}

/// An interval as it is written: its method, or a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval(IntervalRecipe);

impl Decode for Interval {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let recipe = match value.kind {
            ValueKind::String(_) => IntervalRecipe {
                method: Method::decode(value, problems)?,
                draws: 1000,
                unit: Names(vec![ROW.to_string()]),
                seed: 0,
            },
            _ => IntervalRecipe::decode(value, problems)?,
        };
        Some(Self(recipe))
    }

    fn schema() -> Schema {
        schema::any_of([Method::schema(), IntervalRecipe::schema()])
    }
}

/// The recipes of what is written, if nothing is wrong with them.
pub fn recipes(statistics: Statistics, problems: &mut Problems) -> Option<Vec<StatisticRecipe>> {
    let recipes: Vec<_> = statistics.0.into_iter().map(|(name, form)| recipe(name, form, problems)).collect();
    recipes.into_iter().collect()
}

fn recipe(name: String, form: At<StatisticForm>, problems: &mut Problems) -> Option<StatisticRecipe> {
    let At { value: form, span } = form;
    let before = problems.len();
    form.check(problems);
    let by = names(form.by.clone());
    let filter = form.r#where.clone().map(|filter| filter.0);
    let what = match form.kind {
        Kind::Correlation(kind) => correlation(kind, form, span, problems).map(What::Correlation),
        Kind::Test(kind) => test(kind, form, span, problems).map(What::Test),
        Kind::Agreement(kind) => agreement(kind, form, span, problems).map(What::Agreement),
    };
    Some(StatisticRecipe { name, by, filter, what: what? }).filter(|_| problems.len() == before)
}

impl StatisticForm {
    /// What can be wrong whatever the kind.
    fn check(&self, problems: &mut Problems) {
        let allowed = self.allowed();
        let kind = self.kind.word();
        for (setting, span) in self.written() {
            if !allowed.contains(&setting) {
                let problem =
                    Diagnostic::at(span, format!("`{setting}` says nothing for a statistic of kind `{kind}`"));
                problems.push(problem.hint(format!("beside `by` and `where`, it has {}", listed(&allowed))));
            }
        }
        if self.rater.is_none() && !matches!(self.kind, Kind::Test(_)) {
            for (setting, span) in self.written().filter(|(setting, _)| RATINGS.contains(setting)) {
                problems.at(span, format!("`{setting}` needs `rater` beside it: the column that says who rated"));
            }
        }
        if let Some(by) = &self.by
            && let Some(name) = by.value.0.iter().find(|name| COLUMNS.contains(&name.as_str()))
        {
            problems.at(by.span, format!("`{name}` in `by` is a column of the table of statistics itself"));
        }
        for (setting, names) in [("x", &self.x), ("y", &self.y), ("item", &self.item), ("raters", &self.raters)] {
            if let Some(At { value, span }) = names
                && value.0.is_empty()
            {
                problems.at(*span, format!("`{setting}` names no column"));
            }
        }
    }

    /// The settings that are there, beside those that every kind has.
    fn written(&self) -> impl Iterator<Item = (&'static str, Span)> {
        fn place<T>(setting: &Option<At<T>>) -> Option<Span> {
            setting.as_ref().map(|setting| setting.span)
        }
        let settings = [
            ("x", place(&self.x)),
            ("y", place(&self.y)),
            ("within", place(&self.within)),
            ("means_of", place(&self.means_of)),
            ("sample", place(&self.sample)),
            ("interval", place(&self.interval)),
            ("compare", place(&self.compare)),
            ("to", place(&self.to)),
            ("pair", place(&self.pair)),
            ("exact", place(&self.exact)),
            ("draws", place(&self.draws)),
            ("seed", place(&self.seed)),
            ("raters", place(&self.raters)),
            ("rater", place(&self.rater)),
            ("item", place(&self.item)),
            ("value", place(&self.value)),
            ("min_shared", place(&self.min_shared)),
            ("weights", place(&self.weights)),
            ("level", place(&self.level)),
        ];
        settings.into_iter().filter_map(|(setting, span)| Some((setting, span?)))
    }

    /// The settings that its kind has.
    fn allowed(&self) -> Vec<&'static str> {
        let (columns, further): (&[&str], &[&str]) = match self.kind {
            Kind::Correlation(_) => (&["x", "y", "within", "means_of"], &["sample", "interval"]),
            Kind::Test(TestKind::McNemar) => (&["x", "compare", "to", "pair", "interval"], &["exact"]),
            Kind::Test(TestKind::Permutation | TestKind::PairedBootstrap) => {
                (&["x", "compare", "to", "pair", "interval"], &["draws", "seed"])
            }
            Kind::Test(_) => (&["x", "compare", "to", "pair", "interval"], &[]),
            Kind::Agreement(AgreementKind::Accuracy) => (&["raters", "to", "interval"], &[]),
            Kind::Agreement(AgreementKind::Cohen) => (&["raters", "to", "interval"], &["weights"]),
            Kind::Agreement(AgreementKind::Fleiss) => (&["raters", "interval"], &[]),
            Kind::Agreement(AgreementKind::Krippendorff) => (&["raters", "interval"], &["level"]),
        };
        let takes_ratings = !matches!(self.kind, Kind::Test(_));
        let columns = if takes_ratings && self.rater.is_some() { &[] } else { columns };
        let ratings: &[&str] = if takes_ratings { &RATINGS } else { &[] };
        [columns, further, ratings].concat()
    }

    /// The settings of a table with a row for each rating; `None` if there are none, or not all.
    fn ratings(&self, rater: &At<String>, problems: &mut Problems) -> Option<Ratings> {
        let missing = |setting: &str, problems: &mut Problems| {
            let problem = Diagnostic::at(rater.span, format!("`rater` needs `{setting}` beside it"));
            problems.push(
                problem.hint("`rater`, `item` and `value` are the columns of a table with a row for each rating"),
            );
        };
        if self.item.is_none() {
            missing("item", problems);
        }
        if self.value.is_none() {
            missing("value", problems);
        }
        Some(Ratings {
            rater: rater.value.clone(),
            item: self.item.clone()?.value,
            value: self.value.clone()?.value,
            min_shared: self.min_shared.as_ref().map_or(2, |least| least.value),
        })
    }
}

fn correlation(
    kind: CorrelationKind,
    form: StatisticForm,
    span: Span,
    problems: &mut Problems,
) -> Option<CorrelationRecipe> {
    let of = match &form.rater {
        Some(rater) => Pairs::Raters(form.ratings(rater, problems)?),
        None => Pairs::Columns(needed(form.x, "x", span, problems)?, form.y.map(|y| y.value)),
    };
    if let Some(At { value: sample, span }) = &form.sample {
        let of_raters = matches!(of, Pairs::Raters(_));
        if of_raters && !sample.group.0.is_empty() {
            problems.at(*span, "`group` of `sample` is not needed beside `rater`: each two raters are a group");
        } else if sample.one_group && sample.group.0.is_empty() && !of_raters {
            let problem = Diagnostic::at(*span, "`one_group` of `sample` needs `group`");
            problems.push(problem.hint("name the columns that make the groups, such as `group = \"id\"`"));
        }
    }
    if let Some(At { value: Interval(interval), span }) = &form.interval {
        if form.sample.is_some() && *interval != interval.percentiles() {
            let problem = Diagnostic::at(*span, "an interval beside `sample` has no draws or units of its own");
            problems.push(
                problem.hint("write `interval = \"percentile\"`: it lies between the percentiles of the samples"),
            );
        } else if form.sample.is_none() && matches!(of, Pairs::Raters(_)) {
            problems.at(*span, "raters that share items are not independent: an interval needs `sample` here");
        }
    }
    Some(CorrelationRecipe {
        kind,
        of,
        within: names(form.within),
        means_of: names(form.means_of),
        sample: form.sample.map(|sample| sample.value),
        interval: form.interval.map(|interval| interval.value.0),
    })
}

fn test(kind: TestKind, form: StatisticForm, span: Span, problems: &mut Problems) -> Option<TestRecipe> {
    let metrics = needed(form.x, "x", span, problems);
    let compare = needed(form.compare, "compare", span, problems);
    if let Some(to) = &form.to
        && !matches!(to.value, Json::String(_) | Json::Number(_) | Json::Bool(_))
    {
        problems.at(to.span, "`to` is one value of the column that `compare` names");
    }
    if let (Some(compare), Some(by)) = (&compare, &form.by)
        && by.value.0.contains(compare)
    {
        let problem = Diagnostic::at(by.span, format!("`{compare}` is in `by`, so no group has two systems"));
        problems.push(problem.hint("take it out of `by`"));
    }
    let drawn = matches!(kind, TestKind::Permutation | TestKind::PairedBootstrap);
    Some(TestRecipe {
        kind,
        metrics: metrics?,
        compare: compare?,
        to: form.to.map(|to| to.value),
        pair: form.pair.map(|pair| pair.value),
        exact: (kind == TestKind::McNemar).then(|| form.exact.is_none_or(|exact| exact.value)),
        draws: drawn.then(|| form.draws.map_or(10_000, |draws| draws.value)),
        seed: drawn.then(|| form.seed.map_or(0, |seed| seed.value)),
        interval: form.interval.map(|interval| interval.value.0),
    })
}

fn agreement(kind: AgreementKind, form: StatisticForm, span: Span, problems: &mut Problems) -> Option<AgreementRecipe> {
    let of = match &form.rater {
        Some(rater) => Raters::Long(form.ratings(rater, problems)?),
        None => {
            let to = form.to.as_ref().and_then(|to| match &to.value {
                Json::String(name) => Some(name.clone()),
                _ => {
                    problems.at(to.span, "`to` is one of the raters' columns");
                    None
                }
            });
            let raters = needed(form.raters.clone(), "raters", span, problems)?;
            let others = raters.0.iter().filter(|rater| Some(*rater) != to.as_ref()).count();
            if others + usize::from(to.is_some()) < 2 {
                problems.at(form.raters.map_or(span, |raters| raters.span), "agreement needs two raters");
            }
            Raters::Columns(raters, to)
        }
    };
    Some(AgreementRecipe {
        kind,
        of,
        weights: form.weights.map(|weights| weights.value),
        level: form.level.map(|level| level.value),
        interval: form.interval.map(|interval| interval.value.0),
    })
}

/// A setting that this kind cannot do without.
fn needed<T>(setting: Option<At<T>>, name: &str, span: Span, problems: &mut Problems) -> Option<T> {
    if setting.is_none() {
        problems.at(span, format!("`{name}` is missing"));
    }
    Some(setting?.value)
}

fn names(setting: Option<At<Names>>) -> Names {
    setting.map(|names| names.value).unwrap_or_default()
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl IntervalRecipe {
    /// What `"percentile"` alone means.
    fn percentiles(&self) -> Self {
        Self { method: Method::Percentile, draws: 1000, unit: Names(vec![ROW.to_string()]), seed: 0 }
    }
}
