use super::body::body;
use super::question::Asker;
use super::*;
use crate::diagnostic::Sources;
use crate::row::Row;
use crate::settings::parse;
use crate::stage::Kind;
use serde_json::json;

fn read(model: &str, settings: &str) -> Result<Stage, String> {
    let text = format!("model = {{ {model} }}\ndata = \"a.jsonl\"\n{settings}");
    let (mut sources, mut problems) = (Sources::default(), Problems::default());
    let file = sources.add("m.toml", &text);
    let value = parse(&text, file, &mut problems).expect("syntax");
    let mut stages = crate::stage::decode(Kind::Predict, value.as_table().unwrap(), value.span, &mut problems);
    let all: String = problems.into_vec().iter().map(|problem| sources.render(problem)).collect();
    stages.as_mut().and_then(Vec::pop).filter(|_| all.is_empty()).ok_or(all)
}

const MODEL: &str = "api = \"https://a.org/v1/\", model = \"m-1\"";

fn recipe(model: &str, settings: &str) -> ApiRecipe {
    match read(&format!("{MODEL}{model}"), settings).unwrap().recipe {
        Recipe::Api(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

fn row(value: Json) -> Row {
    value.as_object().unwrap().clone()
}

fn messages(settings: &str, value: Json) -> Result<Json, String> {
    let recipe = recipe("", settings);
    let messages = Asker::new(&recipe).unwrap().messages(&row(value)).map_err(|error| error.to_string())?;
    Ok(json!(messages))
}

#[test]
fn a_key_and_hints_are_in_no_recipe() {
    let more = ", key = \"{env:LAB_KEY}\", concurrency = 3, timeout = \"10s\", price = { input = 1, output = 2 }, max_cost = 5";
    let stage = read(&format!("{MODEL}{more}"), "").unwrap();
    assert_eq!(stage.recipe, Recipe::Api(recipe("", "")));
    assert_eq!(stage.hints.secrets, [(KEY.to_string(), "LAB_KEY".to_string())].into());
    assert_eq!(stage.hints.api.map(|hints| hints.concurrency), Some(3));
    // The whole of it, so that no key changes unseen.
    let expected = r#"{"api":"https://a.org/v1","model":"m-1","max_new_tokens":128,"limit":"max_tokens","template":{"chat":{"system":null,"text":null,"date":null,"variables":{}}},"system":null,"stop":[],"strip":true,"sample":null,"seed":null,"samples":null,"body":{},"omit":[]}"#;
    assert_eq!(serde_json::to_string(&recipe("", "")).unwrap(), expected);
    assert_eq!(recipe("", "seed = 7").seed, None, "what is not drawn depends on no seed");
}

#[test]
fn rows_become_messages() {
    let user = |text: &str| json!({ "role": "user", "content": text });
    let asked = json!({ "instruction": "Add.", "input": "1 2", "output": "3" });
    assert_eq!(messages("", asked.clone()).unwrap(), json!([user("Add.\n\n1 2")]));
    let own = "template = { with_input = \"{{ input }}?\" }\nsystem = \"Be brief.\"";
    let system = json!({ "role": "system", "content": "Be brief." });
    assert_eq!(messages(own, asked.clone()).unwrap(), json!([system, user("1 2?")]));
    assert_eq!(messages("template = { chat = { system = \"Be brief.\" } }", asked).unwrap()[0], system);
    // As they are: further fields too, and a system's message of their own.
    let talk = json!([{ "role": "system", "content": "Sing." }, { "role": "user", "content": "a", "name": "Eve" }]);
    assert_eq!(messages("system = \"Be brief.\"", json!({ "messages": talk })).unwrap(), talk);
    let answered = json!([user("a"), { "role": "assistant", "content": "b" }]);
    assert_eq!(messages("", json!({ "messages": answered })).unwrap(), json!([user("a")]));
    assert!(
        messages("", json!({ "messages": [{ "role": "assistant", "content": "b" }] }))
            .unwrap_err()
            .contains("asks nothing")
    );
    assert!(messages("", json!({ "text": "a" })).unwrap_err().contains("neither `messages` nor an `instruction`"));
}

#[test]
fn what_is_sent_is_what_is_set() {
    let sent = |model: &str, settings: &str, sample| {
        let recipe = recipe(model, settings);
        let asker = Asker::new(&recipe).unwrap();
        body(&recipe, &asker.messages(&row(json!({ "instruction": "a" }))).unwrap(), sample).to_string()
    };
    let begin = r#"{"model":"m-1","messages":[{"role":"user","content":"a"}],"#;
    assert_eq!(sent("", "", 0), format!(r#"{begin}"max_tokens":128,"temperature":0.0,"n":1,"stream":false}}"#));
    let drawn =
        "sample = { temperature = 0.5, top_p = 0.9 }\nsamples = 3\nseed = 7\nstop = [\"!\"]\nmax_new_tokens = 5";
    let expected = r#""max_tokens":5,"temperature":0.5,"top_p":0.9,"seed":9,"stop":["!"],"n":1,"stream":false}"#;
    assert_eq!(sent("", drawn, 2), format!("{begin}{expected}"));
    let other = ", limit = \"max_completion_tokens\", omit = [\"temperature\", \"n\", \"stream\", \"seed\"], body = { effort = \"low\" }";
    let expected = r#""max_completion_tokens":5,"top_p":0.9,"stop":["!"],"effort":"low"}"#;
    assert_eq!(sent(other, drawn, 2), format!("{begin}{expected}"));
}

#[test]
fn mistakes_are_said_with_what_to_do() {
    let of = |model: &str, settings: &str| read(model, settings).unwrap_err();
    for (more, expected) in [
        (", key = \"sk-very-secret\"", "a key cannot stand here"),
        (", key = \"Bearer {env:A}\"", "a secret is the whole value"),
        (", body = { seed = 3 }", "`body` holds `seed`"),
        (", max_cost = 3", "`max_cost` needs a `price`"),
        (", omit = [\"tempreature\"]", "did you mean `temperature`?"),
        (", concurency = 3", "did you mean `concurrency`?"),
        (", concurrency = 0", "expected 1 to 1024"),
    ] {
        let said = of(&format!("{MODEL}{more}"), "");
        assert!(said.contains(expected) && said.contains("m.toml:1:"), "{said}");
    }
    for (api, expected) in [
        ("a.org/v1", "begins with `https://`"),
        ("https://me:pw@a.org", "holds a user or a password"),
        ("https://a.org/v1?x=1", "no address of an API"),
        ("https://a.org/v1/chat/completions", "leave that away"),
    ] {
        let said = of(&format!("api = \"{api}\", model = \"m\""), "");
        assert!(said.contains(expected), "{said}");
    }
    let with_key = |api: &str| read(&format!("api = \"{api}\", model = \"m\", key = \"{{env:A}}\""), "");
    assert!(with_key("http://a.org").unwrap_err().contains("unencrypted"));
    assert!(with_key("http://127.0.0.1.a.org").unwrap_err().contains("unencrypted"));
    for safe in ["https://a.org", "http://127.0.0.1:8000/v1", "http://localhost", "http://[::1]:80"] {
        assert!(with_key(safe).is_ok(), "{safe}");
    }
    for (settings, expected) in [
        ("beams = 4", "`beams` is for models that titer runs itself"),
        ("batch_size = 4", "`batch_size` is for models that titer runs itself"),
        ("samples = 2", "the likeliest answer is always the same"),
        ("template = { chat = { text = \"x\" } }", "the API has a chat template of its own"),
        ("template = { chat = { system = \"x\" } }\nsystem = \"y\"", "`system` stands there twice"),
        ("sytem = \"x\"", "did you mean `system`?"),
    ] {
        let said = of(MODEL, settings);
        assert!(said.contains(expected), "{said}");
    }
    assert!(of("model = \"m\"", "").contains("`api` is missing"));
}
