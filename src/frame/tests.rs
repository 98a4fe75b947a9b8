use super::*;
use serde_json::{Value, json};

fn frame(rows: Value) -> Frame {
    let mut read = read::Rows::default();
    for row in rows.as_array().unwrap() {
        read.add(row.as_object().unwrap(), Wanted::All);
    }
    read.finish(false).frame
}

fn json_of(frame: &Frame) -> Value {
    let row = |row| {
        let cells = frame.names().enumerate().map(|(place, name)| (name.to_string(), frame.cell(place, row).to_json()));
        Value::Object(cells.collect())
    };
    Value::Array((0..frame.rows()).map(row).collect())
}

#[test]
fn a_column_takes_the_narrowest_type_that_holds_its_values() {
    let rows = json!([{ "a": 1, "b": null, "c": true, "d": 1 }, { "a": 2.5, "c": "x", "d": null, "e": [1, 2] }]);
    let mut found = read::Rows::default();
    rows.as_array().unwrap().iter().for_each(|row| found.add(row.as_object().unwrap(), Wanted::All));
    let found = found.finish(false);
    assert_eq!(found.mixed, BTreeSet::from(["c".to_string()]));
    assert_eq!(
        json_of(&found.frame),
        json!([
            { "a": 1.0, "b": null, "c": "true", "d": 1, "e": null },
            { "a": 2.5, "b": null, "c": "x", "d": null, "e": "[1,2]" },
        ])
    );
    assert!(found.frame.is_numeric("d") && !found.frame.is_numeric("c"));
    let message = found.frame.numbers("c").unwrap_err().to_string();
    assert_eq!(message, "`c` is \"true\" in row 1: expected numbers");
}

#[test]
fn groups_are_ordered_by_their_values() {
    let rows = json!([
        { "task": "b", "n": 10 }, { "task": "a", "n": 2 }, { "task": "b", "n": 2 }, { "task": null, "n": 10 },
        { "task": "a", "n": 2 }, { "task": "b", "n": null },
    ]);
    let grouping = frame(rows.clone()).group(&["task", "n"]).unwrap();
    // null 10; a 2; b null; b 2; b 10.
    assert_eq!((grouping.groups.as_slice(), grouping.count), ([4, 1, 3, 0, 1, 2].as_slice(), 5));
    assert_eq!(grouping.firsts(), [3, 1, 5, 2, 0]);
    assert_eq!(grouping.offsets(), [0, 1, 3, 4, 5, 6]);
    let (values, offsets) = grouping.gather(&[1.0, 2.0, 3.0, f64::NAN, 5.0, 6.0]);
    assert_eq!(
        (values.as_slice(), offsets.as_slice()),
        ([2.0, 5.0, 6.0, 3.0, 1.0].as_slice(), [0, 0, 2, 3, 4, 5].as_slice())
    );
    // The same through sorting, where the numbers lie far from each other.
    let far = json!([{ "n": 1_i64 << 40 }, { "n": -5 }, { "n": 1_i64 << 40 }, { "n": 0.5 }]);
    assert_eq!(frame(far).group(&["n"]).unwrap().groups, [2, 0, 2, 1]);
    assert_eq!(frame(rows).group(&[]).unwrap().count, 1);
}

#[test]
fn frames_of_other_columns_and_types_stand_one_below_the_other() {
    let (first, second) = (frame(json!([{ "n": 1, "task": "a" }])), frame(json!([{ "n": 0.5, "em": 1.0 }])));
    let (stacked, mixed) = Frame::stack(&[first, second, frame(json!([{ "task": 3 }]))]).unwrap();
    assert_eq!(
        json_of(&stacked),
        json!([
            { "n": 1.0, "task": "a", "em": null },
            { "n": 0.5, "task": null, "em": 1.0 },
            { "n": null, "task": "3", "em": null },
        ])
    );
    assert_eq!(mixed, BTreeSet::from(["task".to_string()]));
}

#[test]
fn a_left_join_takes_what_the_other_row_says() {
    let left = frame(json!([{ "id": 1, "em": 0.5 }, { "id": 2, "em": 1.0 }, { "id": 1, "em": 0.0 }]));
    let right = frame(json!([{ "id": 3, "human": 9 }, { "id": 1, "human": 4, "em": 7 }]));
    let joined = Keys(&["id"]).left(&left, &right, "human.csv").unwrap();
    assert_eq!(joined.alone, (1, 1));
    assert_eq!(
        json_of(&joined.frame),
        json!([{ "id": 1, "em": 0.5, "human": 4 }, { "id": 2, "em": 1.0, "human": null }, { "id": 1, "em": 0.0, "human": 4 }])
    );
    let twice = frame(json!([{ "id": 1, "human": 4 }, { "id": 1, "human": 5 }]));
    let message = Keys(&["id"]).left(&left, &twice, "human.csv").unwrap_err().to_string();
    assert_eq!(message, "human.csv: rows 1 and 2 both have id = 1: which one is to be joined?");
    let message = Keys(&["doc"]).left(&left, &right, "human.csv").unwrap_err().to_string();
    assert_eq!(message, "the left side of the join has no column `doc`: it has `id`, `em`");
}

#[test]
fn an_outer_join_keeps_every_row_once() {
    let first = frame(json!([{ "id": "b", "em": 1 }, { "id": "a", "em": 0, "task": "x" }]));
    let second = frame(json!([{ "id": "c", "rouge": 0.1, "task": "y" }, { "id": "b", "rouge": 0.2, "task": "z" }]));
    assert_eq!(
        json_of(&outer(&[first, second], &["id"]).unwrap()),
        json!([
            { "id": "b", "em": 1, "task": "z", "rouge": 0.2 },
            { "id": "a", "em": 0, "task": "x", "rouge": null },
            { "id": "c", "em": null, "task": "y", "rouge": 0.1 },
        ])
    );
}

#[test]
fn formulas_have_no_value_where_a_column_has_none() {
    let rows = frame(json!([
        { "em": 0.5, "gpt4.score": 8, "gpt4.reference": 10, "task": "sst2" },
        { "em": null, "gpt4.score": 6, "gpt4.reference": 0, "task": "xsum" },
    ]));
    let values = |text: &str| -> Vec<Value> {
        Formula::new(text).unwrap().evaluate(&rows).unwrap().values.iter().map(Cell::to_json).collect()
    };
    assert_eq!(values("em * 2"), [json!(1.0), Value::Null]);
    assert_eq!(values("gpt4.score / gpt4.reference"), [json!(0.8), Value::Null]);
    assert_eq!(values("task|upper"), [json!("SST2"), json!("XSUM")]);
    assert_eq!(values("'low' if gpt4.score < 7 else 'high'"), [json!("high"), json!("low")]);
    assert_eq!(values("log(gpt4.reference)")[1], Value::Null);
    assert_eq!(values("number(' 2.5 ') + number(gpt4.score)"), [json!(10.5), json!(8.5)]);
    assert_eq!(values("number(task)"), [Value::Null, Value::Null]);
    let mask = |text: &str| Formula::new(text).unwrap().mask(&rows).unwrap();
    assert_eq!(mask("em < 1"), [true, false]);
    assert_eq!(mask("row.em is none"), [false, true]);
    assert_eq!(mask("task in ['xsum', 'squad'] or em > 0.4"), [true, false]);
    let message = Formula::new("gpt4.scor > 1").unwrap().mask(&rows).unwrap_err().to_string();
    assert!(message.contains("`gpt4.scor`, which is no column: did you mean `gpt4.score`?"), "{message}");
    let message = Formula::new("task + 1").unwrap().mask(&rows).unwrap_err().to_string();
    assert!(message.contains("`task + 1` in row 1"), "{message}");
}

#[test]
fn parquet_files_hold_the_same_cells() {
    let rows = json!([{ "n": 1, "x": 0.1, "task": "a", "ok": true, "none": null }, { "n": null, "x": null, "task": "b", "ok": null }]);
    let written = frame(rows);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    written.write_parquet(std::fs::File::create(&path).unwrap()).unwrap();
    let found = read(&path, "rows.parquet", Wanted::All).unwrap();
    assert_eq!(json_of(&found.frame), json_of(&written));
    let some = BTreeSet::from(["task".to_string(), "other".to_string()]);
    let found = read(&path, "rows.parquet", Wanted::Some(&some)).unwrap();
    assert_eq!(json_of(&found.frame), json!([{ "task": "a" }, { "task": "b" }]));
    assert!(found.names.contains("x"));
    std::fs::write(&path, "PAR1 and nothing else").unwrap();
    let message = format!("{:#}", read(&path, "rows.parquet", Wanted::All).unwrap_err());
    assert!(message.starts_with("rows.parquet: this is no Parquet file"), "{message}");
}

#[test]
fn numbers_of_csv_files_are_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "n,id,x,task\n1,007,0.5,a\n20,008,,\n").unwrap();
    let found = read(&path, "a.csv", Wanted::All).unwrap();
    assert_eq!(
        json_of(&found.frame),
        json!([{ "n": 1, "id": "007", "x": 0.5, "task": "a" }, { "n": 20, "id": "008", "x": null, "task": null }])
    );
}
