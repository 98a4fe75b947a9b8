//! Statistics of a table against pandas and its kin, and the mistakes of a person.

use super::*;
use crate::diagnostic::{Problems, Sources};
use crate::report::table::Column;
use crate::settings::{self, Decode as _};
use serde_json::Value as Json;
use std::path::PathBuf;

/// The recipes of `[statistics.…]` tables, or the rendered problems.
fn read(text: &str) -> Result<Vec<StatisticRecipe>, String> {
    let mut sources = Sources::default();
    let file = sources.add("m.toml", text);
    let mut problems = Problems::default();
    let value = settings::parse(text, file, &mut problems).expect("syntax");
    let found = Statistics::decode(&value, &mut problems).and_then(|found| recipes(found, &mut problems));
    match found {
        Some(found) if problems.is_empty() => Ok(found),
        _ => Err(problems.into_vec().iter().map(|problem| sources.render(problem)).collect()),
    }
}

/// What `tests/references/make_statistics_table_reference.py` made.
fn reference() -> Json {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/statistics_table.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cell(value: &Json) -> Cell {
    match value {
        Json::String(text) => Cell::Text(text.clone()),
        Json::Bool(flag) => Cell::Bool(*flag),
        Json::Number(number) => number.as_i64().map_or_else(|| Cell::Float(number.as_f64().unwrap()), Cell::Int),
        _ => Cell::Null,
    }
}

fn table(columns: &Json) -> Table {
    let column = |(name, cells): (&String, &Json)| Column {
        name: name.clone(),
        cells: cells.as_array().unwrap().iter().map(cell).collect(),
    };
    Table { columns: columns.as_object().unwrap().iter().map(column).collect() }
}

/// The statistics of a table of the reference.
fn statistics(reference: &Json, name: &str, settings: &str) -> anyhow::Result<Table> {
    let key: &[&str] = if name == "scores" { &["model", "n", "id"] } else { &["worker", "id"] };
    let key: Vec<String> = key.iter().map(ToString::to_string).collect();
    let mask = |filter: &str| {
        let mask = reference["masks"][filter].as_array().expect("a known expression");
        Ok(mask.iter().map(|kept| kept.as_bool().unwrap()).collect())
    };
    let rows = Rows { table: &table(&reference["rows"][name]), key: &key, mask: &mask };
    tabulate(&read(&format!("[one]\n{settings}")).expect(settings), &rows)
}

fn failure(settings: &str) -> String {
    format!("{:#}", statistics(&reference(), "scores", settings).unwrap_err())
}

/// A cell of the table.
fn at(table: &Table, name: &str, row: usize) -> Cell {
    table.column(name).unwrap_or_else(|| panic!("no column `{name}`")).cells[row].clone()
}

#[test]
fn statistics_equal_pandas_and_its_kin() {
    let reference = reference();
    for case in reference["cases"].as_array().unwrap() {
        let settings = case["settings"].as_str().unwrap();
        let found = statistics(&reference, case["table"].as_str().unwrap(), settings).unwrap();
        let lines = case["lines"].as_array().unwrap();
        assert_eq!(found.rows(), lines.len(), "{settings}");
        for (row, line) in lines.iter().enumerate() {
            for (name, expected) in line.as_object().unwrap() {
                let (found, expected) = (at(&found, name, row), cell(expected));
                // p-values as in `crate::statistics`: of a correlation of 1, they hang on its last digit.
                let tolerance = if name.starts_with('p') { 1e-9 } else { 1e-12 };
                let is_close = match (found.number(), expected.number()) {
                    (Some(a), Some(b)) => (a - b).abs() <= tolerance * b.abs() || (a.max(b) < 1e-15 && name == "p"),
                    _ => found == expected,
                };
                assert!(is_close, "{settings}\nline {row}, {name}: {found:?} is not {expected:?}");
            }
        }
    }
}

#[test]
fn random_samples_come_near_to_pandas() {
    let reference = reference();
    for case in reference["sampled"].as_array().unwrap() {
        let settings = case["settings"].as_str().unwrap();
        let found = statistics(&reference, case["table"].as_str().unwrap(), settings).unwrap();
        let number = |name: &str| at(&found, name, 0).number().unwrap();
        let (draws, theirs) = (number("draws"), case["draws"].as_f64().unwrap());
        // Four standard errors of the difference.
        let error = case["std"].as_f64().unwrap() * (1.0 / draws + 1.0 / theirs).sqrt();
        let difference = number("value") - case["mean"].as_f64().unwrap();
        assert!(difference.abs() < 4.0 * error, "{settings}: {difference} {error}");
        let undefined = number("undefined") / draws - case["undefined"].as_f64().unwrap();
        assert!(undefined.abs() < 0.025, "{settings}: {undefined}");
        // The same seed gives the same digits, and another one others.
        let again = |settings: &str| statistics(&reference, case["table"].as_str().unwrap(), settings).unwrap();
        assert_eq!(at(&again(settings), "value", 0), at(&found, "value", 0));
        let other = settings.replace("size =", "seed = 5, size =");
        assert_ne!(at(&again(&other), "value", 0), at(&found, "value", 0));
    }
}

#[test]
fn samples_of_correlations_have_percentiles() {
    let settings =
        "kind = \"pearson\"\nx = \"rouge\"\ny = \"human\"\nsample = { size = 10 }\ninterval = \"percentile\"";
    let found = statistics(&reference(), "scores", settings).unwrap();
    for row in 0..2 {
        let number = |name: &str| at(&found, name, row).number().unwrap();
        assert!(number("ci_low") < number("value") && number("value") < number("ci_high"));
        assert_eq!(number("draws"), 1000.0);
    }
}

#[test]
fn intervals_depend_on_the_unit() {
    let reference = reference();
    let width = |interval: &str| {
        let settings = format!("kind = \"pearson\"\nx = \"rouge.rouge1\"\ny = \"human\"\ninterval = {interval}");
        let found = statistics(&reference, "scores", &settings).unwrap();
        let number = |name: &str| at(&found, name, 0).number().unwrap();
        assert!(number("ci_low") < number("value") && number("value") < number("ci_high"), "{interval}");
        number("ci_high") - number("ci_low")
    };
    let rows = width("\"percentile\"");
    assert_eq!(width("{ method = \"percentile\", unit = \"row\" }"), rows);
    assert!((width("\"bca\"") / rows - 1.0).abs() < 0.3);
    let models = width("{ method = \"percentile\", unit = [\"model\", \"n\"] }");
    let both = width("{ method = \"percentile\", unit = [\"model\", \"n\", \"row\"] }");
    assert!(models != rows && both != rows && both != models);
}

#[test]
fn a_test_has_an_interval_of_the_difference() {
    let settings =
        "kind = \"permutation\"\nx = \"rouge.rouge1\"\ncompare = \"model\"\nto = \"base\"\ninterval = \"bca\"";
    let found = statistics(&reference(), "scores", settings).unwrap();
    assert_eq!(found.rows(), 2);
    for row in 0..2 {
        let number = |name: &str| at(&found, name, row).number().unwrap();
        assert!(number("ci_low") < number("difference") && number("difference") < number("ci_high"));
        assert_eq!((number("draws"), number("difference")), (10_000.0, number("value")));
    }
    // No random signs give a sum as far out as that of the best system, and the p-value is never 0.
    assert_eq!(at(&found, "x", 0), Cell::Text("large".into()));
    assert_eq!(at(&found, "p", 0), Cell::Float(1.0 / 10_001.0));
    assert_eq!(at(&found, "p_holm", 0), Cell::Float(2.0 / 10_001.0));
}

#[test]
fn random_tests_agree_with_student_s() {
    // Of 24 differences of a few sizes, the three p-values lie within some parts in a hundred.
    let p = |kind: &str| {
        let settings = format!("kind = \"{kind}\"\nx = \"flat\"\ncompare = \"model\"\nto = \"base\"\nby = \"task\"");
        let found = statistics(&reference(), "scores", &settings).unwrap();
        (2..6).map(|row| at(&found, "p", row).number().unwrap()).collect::<Vec<_>>()
    };
    let (student, permutation, bootstrap) = (p("paired_t"), p("permutation"), p("paired_bootstrap"));
    for row in 0..4 {
        assert!((permutation[row] - student[row]).abs() < 0.05, "{student:?} {permutation:?}");
        assert!((bootstrap[row] - student[row]).abs() < 0.05, "{student:?} {bootstrap:?}");
    }
}

#[test]
fn a_table_has_the_columns_of_all_groups() {
    let text = "[b]\nkind = \"pearson\"\nx = \"em\"\ny = \"human\"\nby = [\"task\", \"n\"]\n\n[a]\nkind = \"wilcoxon\"\n\
                x = \"em\"\ncompare = \"model\"\nby = \"n\"";
    let reference = reference();
    let rows = table(&reference["rows"]["scores"]);
    let key = ["model", "n", "id"].map(ToString::to_string);
    let rows = Rows { table: &rows, key: &key, mask: &|_| Ok(Vec::new()) };
    let found = tabulate(&read(text).unwrap(), &rows).unwrap();
    assert_eq!(found.names().take(6).collect::<Vec<_>>(), ["statistic", "kind", "task", "n", "metric", "x"]);
    assert_eq!((found.rows(), found.columns.iter().all(|column| column.cells.len() == 18)), (18, true));
    assert_eq!((at(&found, "statistic", 0), at(&found, "n", 1)), (Cell::Text("b".into()), Cell::Int(20)));
    assert_eq!((at(&found, "statistic", 9), at(&found, "task", 9)), (Cell::Text("a".into()), Cell::Null));
}

#[test]
fn an_empty_table_has_no_lines() {
    let empty = Table { columns: vec![Column { name: "em".into(), cells: Vec::new() }] };
    let rows = Rows { table: &empty, key: &[], mask: &|_| Ok(Vec::new()) };
    let found = tabulate(&read("[one]\nkind = \"pearson\"\nx = \"em\"").unwrap(), &rows).unwrap();
    assert_eq!((found.rows(), found.columns.len()), (0, COLUMNS.len()));
}

#[test]
fn a_where_that_keeps_nothing_is_an_error() {
    let table = Table { columns: vec![Column { name: "em".into(), cells: vec![Cell::Float(0.5); 3] }] };
    let rows = Rows { table: &table, key: &[], mask: &|_| Ok(vec![false; 3]) };
    let error =
        tabulate(&read("[one]\nkind = \"pearson\"\nx = \"em\"\nwhere = \"em > 1\"").unwrap(), &rows).unwrap_err();
    assert_eq!(format!("{error:#}"), "statistic `one`: no row is left after `where = \"em > 1\"`");
}

#[test]
fn systems_can_be_numbers() {
    let settings = "kind = \"paired_t\"\nx = \"rouge.rouge1\"\ncompare = \"n\"\nto = 0.0";
    let found = statistics(&reference(), "scores", settings).unwrap();
    assert_eq!((at(&found, "x", 0), at(&found, "x", 1)), (Cell::Text("20".into()), Cell::Text("400".into())));
    // Rows are paired by model and row id, which is what is left of the key.
    assert_eq!((found.rows(), at(&found, "count", 0), at(&found, "y", 0)), (2, Cell::Int(72), Cell::Text("0".into())));
}

#[test]
fn a_recipe_is_the_same_after_it_was_written() {
    let text = "[a]\nkind = \"kendall\"\nx = \"em\"\nwithin = \"task\"\nsample = { size = 10, group = \"id\" }\n\n\
                [b]\nkind = \"mcnemar\"\nx = \"em\"\ncompare = \"n\"\nto = 0\n\n\
                [c]\nkind = \"krippendorff\"\nrater = \"w\"\nitem = [\"id\", \"n\"]\nvalue = \"v\"\nlevel = \"ratio\"";
    let recipes = read(text).unwrap();
    let written = serde_json::to_string(&recipes).unwrap();
    assert_eq!(serde_json::from_str::<Vec<StatisticRecipe>>(&written).unwrap(), recipes);
    let names: Vec<_> = recipes.iter().flat_map(|recipe| recipe.names().into_iter().map(|(_, name)| name)).collect();
    assert_eq!(names, ["em", "task", "id", "em", "n", "w", "v", "id", "n"]);
}

#[test]
fn columns_that_are_not_there_are_named() {
    let pearson = |rest: &str| failure(&format!("kind = \"pearson\"\n{rest}"));
    let message = pearson("x = \"em\"\ny = \"humna\"");
    assert_eq!(message, "statistic `one`: `y` names no column of the rows: `humna`: did you mean `human`?");
    assert!(
        pearson("x = \"em\"\nby = \"taks\"").contains("`by` names no column of the rows: `taks`: did you mean `task`?")
    );
    assert!(pearson("x = \"em\"\nwithin = \"t\"").contains("`within` names no column"));
    assert!(pearson("x = \"em\"\nsample = { size = 3, group = \"idd\" }").contains("`sample.group` names no column"));
    assert!(
        pearson("x = \"em\"\ninterval = { method = \"bca\", unit = \"runs\" }")
            .contains("`interval.unit` names no column")
    );
    let message = pearson("x = \"task\"\ny = \"em\"");
    assert_eq!(message, "statistic `one`: `x` needs numbers, but column `task` has texts, such as \"sst2\"");
    let message = failure("kind = \"wilcoxon\"\nx = \"em\"\ncompare = \"model\"\nto = \"lage\"");
    assert_eq!(message, "statistic `one`: `to` is no value of `model`: `lage`: did you mean `large`?");
    let message = failure("kind = \"mcnemar\"\nx = \"flat\"\ncompare = \"model\"");
    assert!(message.contains("1 and 0, but `flat` is 0.") && message.contains("`wilcoxon` or"), "{message}");
    let message = failure("kind = \"cohen_kappa\"\nraters = [\"one\", \"two\"]\nweights = \"linear\"");
    assert!(message.contains("`raters` needs numbers, but column `one` has texts"), "{message}");
    let message = failure("kind = \"cohen_kappa\"\nrater = \"model\"\nitem = \"id\"\nvalue = \"one\"");
    assert!(message.contains("two ratings of one item by `base`: add the columns"), "{message}");
}

#[test]
fn mistakes_are_shown_at_their_places() {
    let wrong = |settings: &str| read(&format!("[one]\n{settings}")).unwrap_err();
    let message = wrong("kind = \"spearmen\"");
    assert!(
        message.contains("there is no statistic `spearmen`") && message.contains("did you mean `spearman`?"),
        "{message}"
    );
    let message = wrong("kind = \"pearson\"\nx = \"em\"\ncompare = \"model\"\nlevel = \"ratio\"");
    assert!(
        message.contains("`compare` says nothing for a statistic of kind `pearson`") && message.contains("m.toml:4:11")
    );
    assert!(message.contains("`level` says nothing") && message.contains("it has `x`, `y`, `within`"), "{message}");
    let message = wrong("kind = \"wilcoxon\"\nby = \"model\"");
    assert!(message.contains("`x` is missing") && message.contains("`compare` is missing"), "{message}");
    let message = wrong("kind = \"wilcoxon\"\nx = \"em\"\ncompare = \"model\"\nby = [\"model\"]\ndraws = 10");
    assert!(message.contains("expected 100 to 10000000"), "{message}");
    let message = wrong("kind = \"wilcoxon\"\nx = \"em\"\ncompare = \"model\"\nby = [\"model\"]\ndraws = 1000");
    assert!(message.contains("no group has two systems") && message.contains("`draws` says nothing"), "{message}");
    let message = wrong("kind = \"krippendorff\"\nrater = \"w\"");
    assert!(message.contains("`rater` needs `item`") && message.contains("`rater` needs `value`"), "{message}");
    assert!(wrong("kind = \"accuracy\"\nitem = \"id\"").contains("`item` needs `rater` beside it"));
    assert!(wrong("kind = \"accuracy\"\nraters = [\"a\"]").contains("agreement needs two raters"));
    assert!(wrong("kind = \"accuracy\"\nraters = \"a\"\nto = 3").contains("`to` is one of the raters' columns"));
    let sample = "kind = \"pearson\"\nx = \"em\"\n";
    assert!(wrong(&format!("{sample}sample = {{ size = 10, one_group = true }}")).contains("needs `group`"));
    assert!(wrong(&format!("{sample}sample = {{ size = 1 }}")).contains("expected 2 to"));
    assert!(
        wrong(&format!("{sample}sample = {{ size = 4 }}\ninterval = \"bca\"")).contains("no draws or units of its own")
    );
    assert!(
        wrong("kind = \"pearson\"\nx = \"em\"\nby = \"count\"")
            .contains("is a column of the table of statistics itself")
    );
    assert!(wrong("kind = \"pearson\"\nx = []").contains("`x` names no column"));
    assert!(read("[\"a/b\"]\nkind = \"pearson\"\nx = \"em\"").unwrap_err().contains("`a/b` is no name"));
    let both = read("[a]\nkind = \"pearson\"\n[b]\nkind = \"kendall\"\nx = 3").unwrap_err();
    assert!(both.contains("m.toml:5:5") && both.contains("found"), "{both}");
    let both = read("[a]\nkind = \"pearson\"\n[b]\nkind = \"kendall\"\nx = \"em\"\nexact = true").unwrap_err();
    assert!(both.contains("`x` is missing") && both.contains("`exact` says nothing"), "{both}");
}
