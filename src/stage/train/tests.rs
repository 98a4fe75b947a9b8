//! How a train stage's settings are read.

use super::*;
use crate::diagnostic::Sources;
use crate::settings::parse;

/// Reads a train stage; the messages are those of the mistakes.
fn read(text: &str) -> (Option<(TrainRecipe, Vec<InputSpec>)>, String) {
    let mut sources = Sources::default();
    let file = sources.add("m.toml", text);
    let mut problems = Problems::default();
    let value = parse(text, file, &mut problems).expect("syntax");
    let stages = crate::stage::decode(Kind::Train, value.as_table().unwrap(), value.span, &mut problems);
    let messages: Vec<String> = problems.into_vec().iter().map(|problem| sources.render(problem)).collect();
    let stage = stages.map(|mut stages| stages.remove(0)).map(|stage| match stage.recipe {
        Recipe::Train(recipe) => (*recipe, stage.inputs),
        other => panic!("not a training: {other:?}"),
    });
    (stage, messages.join(""))
}

fn roles(inputs: &[InputSpec]) -> Vec<(&str, Form)> {
    inputs.iter().map(|input| (input.role.as_str(), input.form)).collect()
}

#[test]
fn a_mix_brings_its_validation_rows() {
    let (stage, problems) = read("data = 'mix.train'\nbase = 'models/base'\nlora = {}");
    let (recipe, inputs) = stage.expect(&problems);
    assert!(!recipe.is_whole());
    assert_eq!(
        serde_json::Value::from(recipe.lora.unwrap().targets),
        serde_json::json!(["k_proj", "o_proj", "q_proj", "v_proj"])
    );
    assert_eq!((recipe.batch_size, recipe.micro_batch_size, recipe.learning_rate), (128, 32, 3e-4));
    let expected = [("data", Form::Rows), ("validation", Form::ValidationRows), ("base", Form::Model)];
    assert_eq!(roles(&inputs), expected);
    assert_eq!(inputs[0].source, inputs[1].source);
}

#[test]
fn a_file_or_a_named_output_brings_none() {
    for data in ["'a.jsonl'", "'mix.train.test'"] {
        let (stage, problems) = read(&format!("data = {data}\nbase = 'b'"));
        assert_eq!(roles(&stage.expect(&problems).1), [("data", Form::Rows), ("base", Form::Model)]);
    }
    let (stage, problems) = read("data = { train = 'a.jsonl', validation = 'b.jsonl' }\nbase = 'b'");
    let inputs = stage.expect(&problems).1;
    assert_eq!(inputs[1].source, InputSource::Path("b.jsonl".to_string()));
    assert_eq!(inputs[1].role, "validation");
}

#[test]
fn a_new_model_needs_a_shape_and_a_tokenizer() {
    let (_, problems) = read("data = 'mix.train'");
    assert!(problems.contains("`base` is missing") && problems.contains("architecture"), "{problems}");
    let shape = "architecture = { hidden_size = 128, layers = 3, heads = 4, intermediate_size = 344 }";
    let (_, problems) = read(&format!("data = 'mix.train'\n{shape}"));
    assert!(problems.contains("`tokenizer` is missing"), "{problems}");
    let (stage, problems) = read(&format!("data = 'mix.train'\ntokenizer = {{ bpe = 512 }}\n{shape}"));
    assert!(stage.expect(&problems).0.is_whole());
    let odd = shape.replace("heads = 4", "heads = 5");
    let (_, problems) = read(&format!("data = 'mix.train'\ntokenizer = {{ bpe = 512 }}\n{odd}"));
    assert!(problems.contains("`hidden_size` must be a multiple of twice `heads`"), "{problems}");
}

#[test]
fn warm_up_has_three_forms() {
    let base = "data = 'mix.train'\nbase = 'b'\n";
    let warmup = |text: &str| read(&format!("{base}warmup = {text}")).0.map(|(recipe, _)| recipe.warmup);
    assert_eq!(warmup("10"), Some(Warmup::Steps(10)));
    assert_eq!(warmup("{ ratio = 0.05 }"), Some(Warmup::Ratio(0.05)));
    assert_eq!(
        warmup("{ epochs = 2, min = 4, max = 100 }"),
        Some(Warmup::Every(Every { epochs: 2.0, min: 4, max: Some(100) }))
    );
    assert_eq!(warmup("{ epochs = 1, min = 9, max = 3 }"), None);
    assert!(read(&format!("{base}warmup = 'slow'")).1.contains("{ ratio = 0.05 }"));
}

#[test]
fn equal_trainings_have_equal_recipes() {
    let base = "data = 'mix.train'\nbase = 'b'\n";
    let recipe = |text: &str| serde_json::to_string(&read(&format!("{base}{text}")).0.unwrap().0).unwrap();
    assert_eq!(recipe("batch_size = 8"), recipe("batch_size = 8\nmicro_batch_size = 8"));
    assert_eq!(recipe("max_steps = 8\nepochs = 2"), recipe("max_steps = 8"));
    assert_eq!(recipe("threads = 1"), recipe("threads = 2"));
    assert_eq!(recipe("checkpoint_blocks = true"), recipe(""));
    let off = "packing = false\ngroup_by_length = false\n";
    assert_eq!(recipe(off), recipe(""));
    let lora = |text: &str| recipe(&format!("lora = {{ {text} }}"));
    let off = "rslora = false, dora = false, bias = 'none', rank_pattern = {}, modules_to_save = []";
    assert_eq!(lora(off), lora(""));
    assert_eq!(lora("modules_to_save = ['b', 'a', 'b']"), lora("modules_to_save = ['a', 'b']"));
    assert_eq!(recipe("lora = {}\nbase_precision = 'f32'"), lora(""));
    assert_eq!(recipe("schedule = 'cosine'\nlearning_rate_floor = 0.0"), recipe("schedule = 'cosine'"));
    assert_ne!(recipe("batch_size = 8"), recipe("batch_size = 4"));
}

/// What a manifest of before these settings said has the key that it had.
#[test]
fn settings_at_their_defaults_are_in_no_key() {
    let (stage, problems) = read("data = 'mix.train'\nbase = 'b'\nlora = {}");
    let recipe = serde_json::to_value(stage.expect(&problems).0).unwrap();
    let set = |table: &serde_json::Value| {
        let entries = table.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
        entries.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(set(&recipe["lora"]), ["r", "alpha", "dropout", "targets"]);
    for new in
        ["packing", "group_by_length", "base_precision", "learning_rate_floor", "validation_first", "checkpoints"]
    {
        assert!(!set(&recipe).contains(&new.to_string()), "{new}");
    }
}

#[test]
fn targets_are_names_a_pattern_or_all() {
    let targets = |text: &str| {
        let (stage, problems) = read(&format!("data = 'mix.train'\nbase = 'b'\nlora = {{ targets = {text} }}"));
        let targets = stage.map(|(recipe, _)| recipe.lora.unwrap().targets);
        let json = targets.clone().map(|targets| serde_json::to_value(targets).unwrap());
        let again = json.map(|json| serde_json::from_value::<Targets>(json).unwrap());
        assert_eq!(again, targets, "not the same to a worker");
        targets.ok_or(problems)
    };
    assert_eq!(targets("['b', 'a', 'b']"), Ok(Targets::Names(vec!["a".to_string(), "b".to_string()])));
    assert_eq!(targets("'all-linear'"), Ok(Targets::AllLinear));
    assert_eq!(targets(r"'.*\.[qv]_proj'"), Ok(Targets::Pattern(r".*\.[qv]_proj".to_string())));
    assert!(targets("'('").unwrap_err().contains("not a regular expression"));
    for nothing in ["''", "[]", "['']"] {
        assert!(targets(nothing).unwrap_err().contains("names no linear layer"), "{nothing}");
    }
}

#[test]
fn settings_that_need_others_say_so() {
    let base = "data = 'a.jsonl'\nbase = 'b'\n";
    let wrong = [
        ("base_precision = 'nf4'", "`base_precision` needs `lora`"),
        ("learning_rate_floor = 0.1", "`learning_rate_floor` needs `schedule"),
        ("validation_first = 10", "`validation_first` needs validation rows"),
        ("base_precision = 'nf5'", "did you mean `nf4`?"),
        ("lora = { bias = 'some' }", "`some` is not known here"),
        ("lora = { rank_pattern = { q_proj = 0 } }", "the rank is 0"),
    ];
    for (text, expected) in wrong {
        let (stage, problems) = read(&format!("{base}{text}"));
        assert!(stage.is_none() && problems.contains(expected), "{text}: {problems}");
    }
    let (stage, problems) = read(&format!("{base}lora = {{}}\nbase_precision = 'int8'\ncheckpoint_blocks = true"));
    assert_eq!(stage.expect(&problems).0.base_precision, Some(BasePrecision::Int8));
}

#[test]
fn mistakes_are_shown_at_their_places() {
    let (_, problems) =
        read("data = 'a.jsonl'\nbase = 'b'\nschedule = 'lineer'\nbetas = [1.0, 2]\nlora = { rank = 3 }");
    assert!(problems.contains("did you mean `linear`?") && problems.contains("m.toml:3:12"), "{problems}");
    assert!(problems.contains("`betas` are two numbers"), "{problems}");
    assert!(problems.contains("unknown setting `rank`"), "{problems}");
    let (_, problems) = read("data = 'a.jsonl'\nbase = 'b'\nearly_stopping = { patience = 1 }");
    assert!(problems.contains("needs validation rows"), "{problems}");
}
