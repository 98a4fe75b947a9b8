use super::*;
use crate::diagnostic::{Problems, Sources};
use crate::settings::parse;
use crate::stage::{Form, Recipe, Stage};

fn read(kind: Kind, text: &str) -> Result<Stage, String> {
    let (mut sources, mut problems) = (Sources::default(), Problems::default());
    let file = sources.add("m.toml", text);
    let value = parse(text, file, &mut problems).expect("syntax");
    let mut stages = super::super::decode(kind, value.as_table().unwrap(), value.span, &mut problems);
    let all: String = problems.into_vec().iter().map(|problem| sources.render(problem)).collect();
    stages.as_mut().and_then(Vec::pop).filter(|_| all.is_empty()).ok_or(all)
}

fn input(role: &str, path: &str) -> Input {
    Input { role: role.into(), labels: BTreeMap::new(), name: role.into(), path: path.into() }
}

fn arguments(stage: &Stage, inputs: &[Input]) -> Result<Vec<String>, String> {
    let Recipe::Command(recipe) = &stage.recipe else { panic!("{stage:?}") };
    let arguments = recipe.arguments(inputs, Path::new("/o")).map_err(|error| error.to_string())?;
    Ok(arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect())
}

#[test]
fn a_training_by_another_program_is_read() {
    let stage = read(
        Kind::Train,
        r#"command = ["python", "finetune.py", "--data={input.data}", "{input.base}", "-n", 20, "--out", "{output}/model"]
           data = "mix.train"
           base = ["models/base", "models/adapter"]
           env = { HF_TOKEN = "{env:TOKEN}", MODE = 3 }
           threads = 2
           time_limit = "2h""#,
    )
    .unwrap();
    let Recipe::Command(recipe) = &stage.recipe else { panic!() };
    assert!(!recipe.whole && recipe.outputs == ["model"]);
    assert_eq!((recipe.env["MODE"].as_str(), stage.hints.secrets["HF_TOKEN"].as_str()), ("3", "TOKEN"));
    assert!(!serde_json::to_string(&recipe).unwrap().contains("TOKEN"), "a secret's name is in no key");
    assert_eq!(stage.demands.threads.map(|threads| threads.get()), Some(2));
    let files: Vec<&str> =
        stage.inputs.iter().filter(|input| input.form == Form::Argument).map(|input| input.role.as_str()).collect();
    assert_eq!(files, ["command.1", "command.5"], "what may be a file of the project");
    let inputs = [input("data", "/d"), input("base.1", "/b1"), input("base.0", "/b0")];
    let expected = ["python", "finetune.py", "--data=/d", "/b0", "/b1", "-n", "20", "--out", "/o/model"];
    assert_eq!(arguments(&stage, &inputs).unwrap(), expected);
}

#[test]
fn a_placeholder_for_many_files_stands_alone() {
    let stage = read(
        Kind::Mix,
        r#"command = ["cat", "--to={output}/train.jsonl", "x{input.rows}"]
                           inputs = { rows = ["a.jsonl", "mix.b"] }"#,
    )
    .unwrap();
    let inputs = [input("rows", "/a"), input("rows", "/b")];
    assert!(arguments(&stage, &inputs).unwrap_err().contains("2 files"));
    assert_eq!(arguments(&stage, &inputs[..1]).unwrap()[2], "x/a");
    assert!(arguments(&stage, &[]).is_err());
}

#[test]
fn without_a_base_a_training_makes_a_whole_model() {
    let whole = |text: &str| match read(Kind::Train, text).unwrap().recipe {
        Recipe::Command(recipe) => recipe.whole,
        _ => panic!(),
    };
    assert!(whole(r#"command = ["x"]"#));
    assert!(!whole(
        r#"command = ["x"]
                      makes = "adapter""#
    ));
}

#[test]
fn mistakes_are_said_at_their_place() {
    for (kind, text, message) in [
        (Kind::Mix, "command = \"ls -l\"", "not a list of arguments"),
        (Kind::Mix, "command = []", "names no program"),
        (Kind::Mix, "command = [\"x\", \"{input.dta}\"]\ninputs = { data = \"a\" }", "did you mean `data`?"),
        (Kind::Mix, "command = [\"x\"]\noutputs = [\"trains\"]", "did you mean `train`?"),
        (Kind::Mix, "command = [\"x\"]\nsources = []", "unknown setting `sources`"),
        (Kind::Mix, "command = [\"x\"]\nmakes = \"model\"", "unknown setting `makes`"),
        (Kind::Predict, "command = [\"x\"]\nenv = { A = \"Bearer {env:KEY}\" }", "the whole value"),
        (Kind::Predict, "command = [\"x\"]\nretry = { on = [\"oomm\"] }", "did you mean `oom`?"),
        (Kind::Predict, "command = [\"x\"]\nmemory = \"8 bananas\"", "no size"),
    ] {
        let problem = read(kind, text).unwrap_err();
        assert!(problem.contains(message) && problem.contains("m.toml:"), "{text}: {problem}");
    }
}
