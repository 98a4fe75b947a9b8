//! Statistics against pandas, scipy, statsmodels, scikit-learn, krippendorff and sacrebleu.
//!
//! Statistics are held to 1e-12 relative, which is what sums of floats in another order leave. p-values are held to 1e-9:
//! they come of logarithms of gamma functions, whose error grows with the number of pairs.

use super::bootstrap::{Draws, bca, interval};
use super::*;
use crate::random::Random;
use serde_json::Value;
use std::path::{Path, PathBuf};

const EXACT: f64 = 1e-12;
const TAILS: f64 = 1e-9;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of the folder that `TITER_GOLDEN_SCORERS` names, else of those that lie here.
fn golden(name: &str) -> String {
    let here = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers");
    let folder = std::env::var_os("TITER_GOLDEN_SCORERS").map_or_else(here, PathBuf::from);
    read(&folder.join(name))
}

/// A list of `tests/golden/statistics.json`, which `tests/references/make_statistics_reference.py` makes.
fn reference(name: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/statistics.json");
    let all: Value = serde_json::from_str(&read(&path)).unwrap();
    all[name].as_array().unwrap().clone()
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap_or(f64::NAN),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn whole(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn wholes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(whole).collect()
}

#[track_caller]
fn close(found: Option<f64>, expected: &Value, tolerance: f64, place: &str) {
    let expected = Some(number(expected)).filter(|expected| !expected.is_nan());
    let is_close = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= tolerance * expected.abs() || found == expected,
        (found, expected) => found.is_none() && expected.is_none(),
    };
    assert!(is_close, "{place}: {found:?} is not {expected:?}");
}

/// A statistic and its p-value; null, or null in place of the statistic, where it is not defined.
#[track_caller]
fn tests_equal(found: Option<Tested>, expected: &Value, place: &str) {
    close(found.map(|test| test.value), &expected[0], EXACT, place);
    p_close(found.and_then(|test| test.p), &expected[1], place);
}

/// A p-value below 1e-15 only has to be one: with a correlation near ±1 it hangs on the last digit of that.
#[track_caller]
fn p_close(found: Option<f64>, expected: &Value, place: &str) {
    let is_tiny = |p: f64| p < 1e-15;
    if !found.is_some_and(is_tiny) || !expected.as_f64().is_some_and(is_tiny) {
        close(found, expected, TAILS, &format!("p of {place}"));
    }
}

const KINDS: [(&str, Correlation); 3] =
    [("pearson", Correlation::Pearson), ("spearman", Correlation::Spearman), ("kendall", Correlation::Kendall)];

#[test]
fn correlations_equal_pandas_and_scipy() {
    for line in golden("correlations.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        assert_eq!(complete(&x, &y).0.len(), whole(&case["n_valid"]));
        for (name, kind) in KINDS {
            let place = format!("{name} of {}", case["name"]);
            close(kind.of(&x, &y), &case["pandas_series"][name], EXACT, &place);
            let scipy = &case["scipy"][if name == "kendall" { "kendall_b" } else { name }];
            let test = kind.test(&x, &y);
            close(test.map(|test| test.value), &scipy["stat"], EXACT, &place);
            p_close(test.and_then(|test| test.p), &scipy["pvalue"], &place);
        }
    }
}

#[test]
fn p_values_equal_scipy_s_from_few_pairs_to_many() {
    for case in reference("correlations") {
        let (x, y) = match case["generated"].as_array() {
            Some(how) => generated(whole(&how[0]), whole(&how[1]), number(&how[2])),
            None => (numbers(&case["x"]), numbers(&case["y"])),
        };
        for (name, kind) in KINDS {
            tests_equal(kind.test(&x, &y), &case[name], &format!("{name} of {} pairs", x.len()));
        }
    }
}

#[test]
fn a_perfect_order_has_an_exact_p_value() {
    // Of 40! orders, one has no inversion and 39 have one; as many have all, or all but one.
    let x: Vec<f64> = (0..40).map(f64::from).collect();
    let mut y = x.clone();
    let factorial: f64 = x.iter().map(|number| number + 1.0).product();
    let p = |y: &[f64]| Correlation::Kendall.test(&x, y).unwrap().p.unwrap() * factorial;
    assert!((p(&y) - 2.0).abs() < 1e-12, "{}", p(&y));
    y.swap(0, 1);
    assert!((p(&y) - 80.0).abs() < 1e-12, "{}", p(&y));
}

/// The pairs that the reference's script makes by the same rule.
fn generated(count: usize, seed: usize, noise: f64) -> (Vec<f64>, Vec<f64>) {
    let round = |value: f64| (value * 1e6).round_ties_even() / 1e6;
    let x: Vec<f64> = (0..count).map(|i| round(((i * 7919 + seed) % 20011) as f64 / 20011.0)).collect();
    let slope = f64::from(u8::from(noise <= 1.0));
    let other = |i: usize| round(x[i] * slope + ((i * 104_729 + seed) % 19997) as f64 / 19997.0 * (noise + 0.1));
    let y = (0..count).map(other).collect();
    (x, y)
}

#[test]
fn correlations_of_groups_equal_pandas() {
    let all: Value = serde_json::from_str(&golden("groups.json")).unwrap();
    let table = all["table"].as_array().unwrap();
    let names: Vec<&str> = all["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let column = |name: &str| -> Vec<f64> { table.iter().map(|row| number(&row[name])).collect() };
    let groups = |keys: &[&str]| -> Vec<Vec<usize>> {
        let mut groups = std::collections::BTreeMap::<Vec<&str>, Vec<usize>>::new();
        for (number, row) in table.iter().enumerate() {
            let key = keys.iter().map(|key| row[*key].as_str().unwrap()).collect();
            groups.entry(key).or_default().push(number);
        }
        groups.into_values().collect()
    };
    let (tasks, cells) = (groups(&["task"]), groups(&["task", "model"]));
    for (name, kind) in KINDS {
        for (a, b) in names.iter().flat_map(|a| names.iter().map(move |b| (*a, *b))) {
            let (x, y) = (column(a), column(b));
            let at = |what: &str| &all[format!("{what}_{name}")][a][b];
            let place = format!("{name} of {a} and {b}");
            close(kind.of(&x, &y), at("corr"), EXACT, &place);
            let of_rows = |rows: &Vec<usize>| {
                let take = |values: &[f64]| -> Vec<f64> { rows.iter().map(|row| values[*row]).collect() };
                kind.of(&take(&x), &take(&y))
            };
            let within = averaged(tasks.iter().map(of_rows));
            close(within.mean, at("mean_over_tasks_corr"), EXACT, &place);
            // pandas counts a column with itself as 1 without looking at it; Kendall's it then computes.
            if a != b {
                assert_eq!(within.defined, whole(at("count_over_tasks")), "{place}");
                assert_eq!(within.undefined, tasks.len() - within.defined);
            }
            close(kind.of(&means(&cells, &x), &means(&cells, &y)), at("corr_of_group_means"), EXACT, &place);
        }
    }
    let ranked = ranks(&column("gpt4"), Ties::Average);
    for (found, expected) in ranked.iter().zip(all["ranks_average_gpt4"].as_array().unwrap()) {
        close((!found.is_nan()).then_some(*found), expected, 0.0, "rank");
    }
    for (name, quantiles) in all["quantiles"].as_object().unwrap() {
        let mut values = column(name);
        values.retain(|value| !value.is_nan());
        values.sort_by(f64::total_cmp);
        for (probability, expected) in quantiles.as_object().unwrap() {
            let found = quantile(&values, probability.parse().unwrap());
            close(found, expected, EXACT, &format!("quantile {probability} of {name}"));
        }
    }
}

#[test]
fn intervals_of_given_draws_equal_numpy_s() {
    for line in golden("bootstrap.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        let rows: Vec<Vec<usize>> = case["idx"].as_array().unwrap().iter().map(wholes).collect();
        let take = |values: &[f64], rows: &[usize]| -> Vec<f64> { rows.iter().map(|row| values[*row]).collect() };
        let means = || rows.iter().map(|rows| mean(&take(&x, rows)));
        let correlations =
            |kind: Correlation| rows.iter().map(|rows| kind.of(&take(&x, rows), &take(&y, rows))).collect::<Vec<_>>();
        for (found, expected) in means().zip(case["boot_means"].as_array().unwrap()) {
            close(found, expected, EXACT, "mean");
        }
        let spearman = correlations(Correlation::Spearman);
        for (found, expected) in spearman.iter().zip(case["boot_spearman"].as_array().unwrap()) {
            close(*found, expected, EXACT, "spearman");
        }
        for (name, found) in [
            ("ci_mean_0.95", interval(means())),
            ("ci_spearman_0.95", interval(spearman)),
            ("ci_kendall_0.95", interval(correlations(Correlation::Kendall))),
        ] {
            close(found.map(|ends| ends.0), &case[name][0], EXACT, name);
            close(found.map(|ends| ends.1), &case[name][2], EXACT, name);
        }
    }
}

#[test]
fn accelerated_intervals_equal_scipy_s() {
    for case in reference("intervals") {
        let some = |name: &str| numbers(&case[name]).into_iter().map(Some).collect::<Vec<_>>();
        let (low, high) = bca(number(&case["value"]), some("draws"), &some("jackknife")).unwrap();
        // Two normal quantiles and the percentiles between them.
        close(Some(low), &case["bca"][0], 1e-11, "low end");
        close(Some(high), &case["bca"][1], 1e-11, "high end");
    }
    assert_eq!(bca(0.0, [Some(1.0), Some(2.0)], &[Some(1.0), Some(2.0)]), None, "all draws lie above");
    assert_eq!(bca(1.5, [Some(1.0), Some(2.0)], &[Some(1.5), Some(1.5)]), None, "nothing is skewed, nothing moves");
}

#[test]
fn tests_of_differences_equal_scipy_s() {
    for case in reference("differences") {
        let values = numbers(&case["values"]);
        let place = |name: &str| format!("{name} of {values:?}");
        tests_equal(wilcoxon(&values), &case["wilcoxon"], &place("wilcoxon"));
        tests_equal(student(&values), &case["student"], &place("student"));
        if (2..13).contains(&values.len()) {
            let found = permutation(&values, Random::new(1, "test"), 100);
            tests_equal(found, &case["permutation"], &place("permutation"));
        }
    }
    assert_eq!((wilcoxon(&[]), wilcoxon(&[0.0; 5]), student(&[0.0; 5])), (None, None, None));
}

#[test]
fn random_signs_come_near_to_all_of_them() {
    let random = Random::new(5, "values");
    let values: Vec<f64> = (0..20).map(|index| random.normal(index) + 0.3).collect();
    let all = permutation(&values, Random::new(1, "test"), 0).unwrap().p.unwrap();
    // Differences of 0 change no sum, so the same patterns are drawn from.
    let mut more = values.clone();
    more.push(1e-9);
    let drawn = permutation(&more, Random::new(1, "test"), 20_000).unwrap().p.unwrap();
    // A standard deviation of at most √(0.25 / 20,000) = 0.0035.
    assert!((all - drawn).abs() < 0.011, "{all} {drawn}");
    assert!(all > 0.001 && all < 0.999);
}

#[test]
fn mcnemar_and_holm_equal_statsmodels() {
    for case in reference("mcnemars") {
        let counts = wholes(&case["counts"]);
        for (kind, expected) in [McNemar::Exact, McNemar::Corrected].iter().zip(case["tests"].as_array().unwrap()) {
            let found = kind.test(counts[0] as u64, counts[1] as u64);
            tests_equal(found, expected, &format!("{kind:?} of {counts:?}"));
        }
    }
    for case in reference("holms") {
        for (found, expected) in holm(&numbers(&case["p"])).iter().zip(case["adjusted"].as_array().unwrap()) {
            close(Some(*found), expected, EXACT, "holm");
        }
    }
}

#[test]
fn the_paired_bootstrap_is_sacrebleu_s() {
    for case in reference("bootstraps") {
        close(bootstrap_p(number(&case["value"]), &numbers(&case["draws"])), &case["p"], EXACT, "paired bootstrap");
    }
}

#[test]
fn agreement_equals_the_packages() {
    for case in reference("cohens") {
        let pairs: Vec<(usize, usize)> = wholes(&case["a"]).into_iter().zip(wholes(&case["b"])).collect();
        for (number, weights) in [Weights::None, Weights::Linear, Weights::Quadratic].into_iter().enumerate() {
            close(cohen_kappa(&pairs, weights), &case["kappas"][number], EXACT, &format!("{weights:?}"));
        }
    }
    for case in reference("fleisses") {
        let items: Vec<Vec<usize>> = case["items"].as_array().unwrap().iter().map(wholes).collect();
        close(fleiss_kappa(&items), &case["kappa"], EXACT, "fleiss");
    }
    assert_eq!(fleiss_kappa(&[vec![2, 0], vec![1, 0]]), None, "another number of raters");
    for case in reference("alphas") {
        let present = |item: &Value| numbers(item).into_iter().filter(|value| !value.is_nan()).collect();
        let items: Vec<Vec<f64>> = case["items"].as_array().unwrap().iter().map(present).collect();
        let levels = [Level::Nominal, Level::Ordinal, Level::Interval, Level::Ratio];
        for (number, level) in levels.into_iter().enumerate() {
            close(krippendorff(&items, level), &case["alphas"][number], EXACT, &format!("{level:?}"));
        }
    }
}

#[test]
fn labels_agree_as_in_scikit_learn() {
    for line in golden("labels.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        // One label in place of each number: they may be negative.
        let place = |value: &Value| case["labels_sorted"].as_array().unwrap().iter().position(|label| label == value);
        let places = |name: &str| case[name].as_array().unwrap().iter().map(|value| place(value).unwrap());
        let pairs: Vec<(usize, usize)> = places("y_true").zip(places("y_pred")).collect();
        close(cohen_kappa(&pairs, Weights::None), &case["cohen_kappa"], EXACT, &case["name"].to_string());
    }
}

#[test]
fn the_draws_of_a_number_of_units_stay_what_they_were() {
    // Score summaries are made of them: their bytes are in people's caches.
    let mut weights = vec![0.0; 6];
    Draws::of(6).weigh(3, &mut weights);
    assert_eq!(weights, [1.0, 0.0, 1.0, 2.0, 0.0, 2.0]);
}
