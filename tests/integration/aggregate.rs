//! Aggregates of aggregates, of files, and their figures: what runs again when one of them changes.

use crate::project::Project;

const MORE: &str = r#"
[[aggregate.table.figures]]
kind = "line"
x = "n"
y = "em"

[[aggregate.table.figures]]
kind = "bar"
name = "bars"
x = "n"
y = "rouge.rouge1"

[aggregate.gain]
from = ["aggregate.table", "data/human.csv"]
join = "n"
columns = { gain = "human - mean" }
where = "metric == 'em'"
by = "n"
metrics = ["gain", "mean"]
"#;

fn project() -> Project {
    let project = Project::answers();
    project.write("data/human.csv", "n,human\n2,0.5\n3,0.75\n5,1\n");
    let text = project.read("pipelines/p.toml") + MORE;
    project.write("pipelines/p.toml", &text);
    project
}

const FIGURES: [&str; 2] = ["aggregate.table[figure=bars]", "aggregate.table[figure=em]"];

#[test]
fn restyling_a_figure_draws_that_figure_only() {
    let project = project();
    let first = project.run();
    assert!(FIGURES.iter().all(|figure| first.iter().any(|ran| ran == figure)), "{first:?}");
    for file in ["figure.svg", "figure-dark.svg", "figure.png", "figure-dark.png", "figure.pdf"] {
        assert!(project.path(&format!("out/answers/aggregate.table/figure=em/{file}")).exists(), "{file}");
    }
    project.edit("pipelines/p.toml", "name = \"bars\"", "name = \"bars\"\ntitle = \"How much of it\"");
    assert_eq!(project.run(), FIGURES[..1]);
    // Another name is no other figure.
    project.edit("pipelines/p.toml", "name = \"bars\"", "name = \"columns\"");
    assert!(project.run().is_empty());
    assert!(project.path("out/answers/aggregate.table/figure=columns/figure.pdf").exists());
    // A figure is the input of another program where it is named.
    let command = "[aggregate.book]\ncommand = [\"cp\", \"{input.figure}\", \"{output}/table.csv\"]\noutputs = [\"csv\"]\n\
                   inputs = { figure = \"aggregate.table[figure=em].svg\" }\n";
    let text = project.read("pipelines/p.toml") + command;
    project.write("pipelines/p.toml", &text);
    assert_eq!(project.run(), ["aggregate.book"]);
    assert!(project.read("out/answers/aggregate.book/table.csv").starts_with("<svg"));
}

#[test]
fn an_aggregate_reads_the_table_of_another_beside_a_file() {
    let project = project();
    project.run();
    let table = project.read("out/answers/aggregate.gain/table.csv");
    let human = [("2", 0.5), ("3", 0.75), ("5", 1.0)];
    for (line, (n, human)) in table.lines().skip(1).step_by(2).zip(human) {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!((cells[0], cells[1], cells[2]), (n, "gain", "1"), "{table}");
        let gain: f64 = cells[4].parse().unwrap();
        assert!(gain.abs() < 1.0 && human - gain >= 0.0, "{table}");
    }
    project.write("data/human.csv", "n,human\n2,0.5\n3,0.75\n5,0.5\n");
    assert_eq!(project.run(), ["aggregate.gain"]);
    assert!(project.read("out/answers/aggregate.table/wide.csv").starts_with("n,em,rouge.rouge1,"));
}

#[test]
fn mistakes_are_seen_before_anything_runs() {
    let mistake = |from: &str, to: &str, texts: &[&str]| {
        let project = project();
        project.edit("pipelines/p.toml", from, to);
        project.refuses(&["run", "pipelines/p.toml"], 2, texts);
    };
    mistake("y = \"em\"", "y = \"emm\"", &["a figure's `y` names `emm`, which no score has", "did you mean `em`?"]);
    mistake("x = \"n\"\ny = \"em\"", "x = \"m\"\ny = \"em\"", &["`m`", "p.toml:"]);
    mistake(
        "by = \"n\"\nmetrics",
        "by = \"n\"\nrank = { of = \"task\" }\nmetrics",
        &["`rank` names `task`, which is not in `by`"],
    );
    mistake("by = \"n\"\nmetrics", "by = \"n\"\nvalues = [\"meen\"]\nmetrics", &["`meen` is no statistic", "median"]);
    mistake(
        "by = [\"n\"]",
        "by = [\"n\"]\nstatistics = { s = { kind = \"spearmann\", x = \"em\" } }",
        &["did you mean `spearman`?"],
    );
    mistake(
        "from = [\"aggregate.table\",",
        "from = [\"aggregate.table.rows\",",
        &["`aggregate.table` keeps no rows", "rows = true"],
    );
    let project = project();
    project.edit("pipelines/p.toml", "join = \"n\"\n", "");
    project.refuses(&["run", "pipelines/p.toml"], 1, &["data/human.csv", "join = [", "union = true"]);
}
