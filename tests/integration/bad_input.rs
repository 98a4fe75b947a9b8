//! Every mistake of a person: one clear message, the right exit code, nothing lost.

use crate::project::Project;

const RUN: [&str; 2] = ["run", "pipelines/p.toml"];

fn with(from: &str, to: &str) -> Project {
    let project = Project::answers();
    project.edit("pipelines/p.toml", from, to);
    project
}

#[test]
fn mistakes_in_the_manifest_are_all_shown_at_once() {
    let project = with("em = \"exact_match\"", "em = \"exact_mach\"");
    project.edit("pipelines/p.toml", "by = [\"n\"]", "by = [\"n\"]\nunits = \"run\"");
    project.edit("pipelines/p.toml", "predictions = \"mix.rows\"", "predictions = \"mix.row\"");
    project.refuses(
        &RUN,
        2,
        &[
            "pipelines/p.toml:14:15",
            "did you mean `mix.rows`?",
            "pipelines/p.toml:17:6",
            "unknown scorer `exact_mach`",
            "did you mean `exact_match`?",
            "unknown setting `units`",
            "did you mean `unit`?",
            "3 problems; nothing was run",
        ],
    );
}

#[test]
fn a_cycle_is_shown_with_its_way() {
    let project = with("{ path = \"data/more.jsonl\" }", "{ from = \"mix.other\" }");
    project.edit("pipelines/p.toml", "[mix.rows]", "[mix.other]\nsources = [{ from = \"mix.rows\" }]\n\n[mix.rows]");
    project.refuses(&RUN, 2, &["mix.other → mix.rows → mix.other", "pipelines/p.toml:8:21"]);
}

#[test]
fn two_stages_of_one_name() {
    let project = with("[score.quality]\n", "[mix.rows]\nsources = []\n\n[score.quality]\n");
    project.refuses(&RUN, 2, &["`rows` stands twice", "pipelines/p.toml:13:6"]);
}

#[test]
fn an_axis_with_equal_values() {
    with("n = [2, 3, 5]", "n = [2, 3, 2]").refuses(&RUN, 2, &["`2`", "pipelines/p.toml:5:12"]);
}

#[test]
fn an_axis_of_ten_million_combinations_is_refused() {
    let values: Vec<String> = (0..4000).map(|i| i.to_string()).collect();
    let list = values.join(",");
    let project = with("n = [2, 3, 5]", &format!("n = [{list}]\nm = [{list}]"));
    project.edit("pipelines/p.toml", "[mix.rows]", "[mix.rows]\nover = [\"m\"]");
    project.refuses(&RUN, 2, &["16000000"]);
}

#[test]
fn many_instances_are_refused_before_memory_goes() {
    let list: Vec<String> = (0..300).map(|i| i.to_string()).collect();
    let project = with("n = [2, 3, 5]", &format!("n = [{0}]\nm = [{0}]", list.join(",")));
    project.edit("pipelines/p.toml", "[mix.rows]", "[mix.rows]\nover = [\"m\"]");
    project.refuses(&RUN, 2, &["`score.quality` has 90000 instances (300 × n, 300 × m), and 90000 come before it"]);
    // A score has as many for each scorer, which is seen as they are made.
    let list: Vec<String> = (0..40_000).map(|i| i.to_string()).collect();
    let project = with("n = [2, 3, 5]", &format!("n = [{}]", list.join(",")));
    project.refuses(&RUN, 2, &["`score.quality` has too many instances", "at most 100000"]);
    project.write("pipelines/p.toml", &"# a comment\n".repeat(2_000_000));
    project.refuses(&RUN, 2, &["MiB, more than 16 MiB"]);
}

#[test]
fn an_axis_that_is_no_list_is_one_problem() {
    for (wrong, texts) in [
        ("n = \"2, 3\"", ["the axis `n` is a string", "write `n = [2, 3]`"]),
        ("n = []", ["the axis `n` has no value", "pipelines/p.toml:5:5"]),
    ] {
        let project = with("n = [2, 3, 5]", wrong);
        project.refuses(&RUN, 2, &texts);
        assert!(!project.titer(&RUN).err.contains("problems"), "{wrong}");
    }
}

#[test]
fn a_metric_that_no_score_has_is_seen_before_anything_runs() {
    let project = with("by = [\"n\"]", "by = [\"n\"]\nmetrics = [\"em\", \"bleu\"]");
    project.refuses(
        &RUN,
        2,
        &["`metrics` names `bleu`, which no score has", "`rouge.rougeL`", "pipelines/p.toml:20:12"],
    );
}

#[test]
fn what_is_meant_by_a_path_that_is_not_there() {
    for (path, hint) in [
        ("~/rows.jsonl", "`~` is known to shells only"),
        ("data", "`data` is a folder: expected a file"),
        ("mixes.rows", "did you mean the stage `mix.rows`?"),
    ] {
        with("predictions = \"mix.rows\"", &format!("predictions = \"{path}\"")).refuses(&RUN, 2, &[hint]);
    }
}

#[test]
fn missing_files_are_found_before_anything_runs() {
    let project = with("data/more.jsonl", "data/mare.jsonl");
    project.refuses(&RUN, 2, &["data/mare.jsonl", "pipelines/p.toml:10"]);
    assert!(!project.path("out").exists());
}

#[test]
fn an_empty_file() {
    let project = Project::answers();
    project.write("data/more.jsonl", "");
    project.refuses(&RUN, 2, &["data/more.jsonl", "empty"]);
}

#[test]
fn invalid_utf8() {
    let project = Project::answers();
    project.write_bytes(
        "data/more.jsonl",
        b"{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"\xff\",\"output\":\"b\"}\n",
    );
    project.refuses(&RUN, 2, &["data/more.jsonl:2", "UTF-8"]);
}

#[test]
fn a_line_cut_in_half() {
    let project = Project::answers();
    project.write("data/more.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"a\",\"out");
    project.refuses(&RUN, 2, &["data/more.jsonl:2"]);
}

#[test]
fn a_missing_column() {
    with("{ path = \"data/more.jsonl\" }", "{ path = \"data/more.jsonl\", columns = { output = \"answer\" } }")
        .refuses(&RUN, 2, &["data/more.jsonl:1", "`answer`"]);
}

#[test]
fn a_column_that_where_names_and_the_rows_lack() {
    with("{ path = \"data/more.jsonl\" }", "{ path = \"data/more.jsonl\", where = \"outptu == 'yes'\" }").refuses(
        &RUN,
        2,
        &["data/more.jsonl:1", "`where`: the column `outptu` is missing; there are `instruction`, `output`"],
    );
}

#[test]
fn a_column_named_like_an_axis() {
    let project = with("{ path = \"data/more.jsonl\" }", "{ path = \"data/more.jsonl\", set = { n = 3 } }");
    project.refuses(&RUN, 2, &["data/more.jsonl:1", "the column `n` is named like an axis"]);
    assert!(!project.path("out").exists());
}

#[test]
fn an_exam_without_rows_is_said_where_it_is_met() {
    let project = with("take = \"{n}\"", "take = \"{n}\", where = \"false\"");
    project.edit("pipelines/p.toml", "{ path = \"data/more.jsonl\" }", "{ path = \"data/more.jsonl\", take = 0 }");
    project.refuses(
        &RUN,
        1,
        &["scorer=em]: `predictions` has no row: there is nothing to score", "no row is left to aggregate"],
    );
}

#[test]
fn a_missing_template_is_one_problem() {
    let project = with(
        "{ path = \"data/more.jsonl\" }",
        "{ path = \"data/more.jsonl\", instruction = { template = \"task.j2\" } }",
    );
    project.refuses(&RUN, 2, &["there is no file `data/task.j2`"]);
    let output = project.titer(&RUN);
    assert!(!output.err.contains("problems"), "{output:?}");
}

#[test]
fn a_row_of_a_million_tokens_is_dropped_and_counted() {
    let project = with("[mix.rows]", "[mix.rows]\nmax_words = 100");
    let long = "word ".repeat(1_000_000);
    project.write(
        "data/more.jsonl",
        &format!("{{\"instruction\":\"{long}\",\"output\":\"b\",\"prediction\":\"b\"}}\n{{\"instruction\":\"a\",\"output\":\"b\",\"prediction\":\"b\"}}\n"),
    );
    project.run();
    let stats: serde_json::Value = serde_json::from_str(&project.read("out/answers/mix.rows/n=2/stats.json")).unwrap();
    assert_eq!(stats["sources"][1]["too_long"], 1, "{stats}");
}

#[test]
fn take_larger_than_the_source_is_said() {
    let project = with("n = [2, 3, 5]", "n = [2, 3, 50]");
    let output = project.titer(&RUN);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("warning:") && output.out.contains("50"), "{output:?}");
}

#[test]
fn wrong_calls() {
    let project = Project::answers();
    project.refuses(&["run", "pipelines/nowhere.toml"], 2, &["pipelines/nowhere.toml"]);
    project.refuses(&["run", "pipelines/p.toml", "-t", "mix.row"], 2, &["mix.rows"]);
    for (selector, texts) in [
        ("mix.rows[n=7]", &["`mix.rows` has no `n` of `7`", "known are `2`, `3`, `5`"][..]),
        ("mix.rows[m=2]", &["`mix.rows` does not vary over `m`", "known are `n`"]),
        ("mix.rows.test", &["a selector names no output: `mix.rows`"]),
        ("rows", &["does not begin with a kind of stage"]),
        ("mix.rows[n=2", &["does not end with `]`"]),
    ] {
        project.refuses(&["run", "pipelines/p.toml", "-t", selector], 2, texts);
    }
    project.refuses(&["run", "pipelines/p.toml", "--variant", "smoke"], 2, &["the manifest has no `[variant.NAME]`"]);
    project.refuses(&["check", "pipelines"], 2, &["it is a folder", "name a manifest in it: `pipelines/p.toml`"]);
    project.refuses(&["run", "pipelines/p.toml", "--set", "x"], 2, &["key=value"]);
    project.refuses(&["run", "pipelines/p.toml", "-j", "0"], 2, &["--jobs"]);
    project.refuses(
        &["run", "pipelines/p.toml", "-t", "mix", "--force", "score.quality"],
        2,
        &["`--force score.quality`: nothing that is to be made needs it", "-t score.quality"],
    );
    project.write_bytes("pipelines/bytes.toml", b"titer = 1\nname = \"\xff\"\n");
    project.refuses(&["check", "pipelines/bytes.toml"], 2, &["UTF-8", "pipelines/bytes.toml:2"]);
    project.write("pipelines/future.toml", "titer = 99\n");
    project.refuses(&["check", "pipelines/future.toml"], 2, &["99", "pipelines/future.toml:1:9"]);
}

#[test]
fn problems_are_json_when_asked() {
    let project = with("n = [2, 3, 5]", "n = []");
    let output = project.titer(&["check", "pipelines/p.toml", "--json"]);
    assert_eq!(output.code, 2);
    let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(json["problems"][0]["line"], 5, "{json}");
}

#[test]
fn init_writes_a_manifest_that_check_understands() {
    let project = Project::empty();
    assert_eq!(project.titer(&["init"]).code, 0);
    let output = project.titer(&["check", "pipelines/experiment.toml"]);
    // The language is right; what it cannot find is the person's own data.
    assert_eq!(output.code, 2, "{output:?}");
    assert!(
        output.err.lines().filter(|line| line.contains("error:")).all(|line| line.contains("there is no")),
        "{output:?}"
    );
    project.refuses(&["init"], 2, &["exists already"]);
}
