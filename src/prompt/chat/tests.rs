//! Conversations held against what transformers makes of them (`tests/references/make_chats.py`).

use super::*;

fn goldens() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/chats.json")).unwrap()
}

fn row(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

fn dialect(text: &str) -> Dialect {
    let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
    Dialect {
        text: Some(text.to_string()),
        special: special.map(|(name, token)| (name.to_string(), token.to_string())).into(),
    }
}

fn chat(text: &str) -> Chat {
    Chat::new(&ChatSettings::default(), &dialect(text)).unwrap()
}

fn family(name: &str) -> Chat {
    chat(goldens()["templates"][name].as_str().unwrap())
}

fn read(list: &Value) -> Vec<Message> {
    list.as_array().unwrap().iter().map(|entry| message(entry).unwrap()).collect()
}

#[test]
fn conversations_have_the_text_that_transformers_gives_them() {
    let goldens = goldens();
    let mut failed = 0;
    for case in goldens["cases"].as_array().unwrap() {
        let name = case["family"].as_str().unwrap();
        let messages = read(&goldens["conversations"][case["conversation"].as_str().unwrap()]);
        let chat = family(name);
        let ask = case["ask"].as_bool().unwrap();
        match (chat.render(&messages, ask), case["text"].as_str()) {
            (Ok(text), Some(expected)) => assert_eq!(text.replace(SAID, ""), expected, "{case}"),
            (Err(error), None) => {
                let error = format!("{error:#}");
                assert!(error.contains(case["error"].as_str().unwrap()), "{error}: {case}");
                failed += 1;
            }
            (made, _) => panic!("{case}: {made:?}"),
        }
        if let Some(said) = case["said"].as_array().filter(|said| !said.is_empty()) {
            let parts = chat.parts(&messages, true).unwrap();
            let found: Vec<&str> = parts.iter().filter(|part| part.is_said).map(|part| part.text.as_str()).collect();
            assert_eq!(found, said.iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>());
        }
    }
    assert!(failed > 0, "some templates refuse a system's message");
}

#[test]
fn what_the_assistant_says_is_found_in_the_text() {
    let goldens = goldens();
    let turns = read(&goldens["conversations"]["turns"]);
    for (name, expected) in [
        ("chatml", ["<think>2 + 2</think>\n\nFour.\n<|im_end|>\n", "<think>hm</think>\n\nFive.<|im_end|>\n"]),
        ("llama3", ["<think>2 + 2</think>\n\nFour.<|eot_id|>", "<think>hm</think>\n\nFive.<|eot_id|>"]),
        ("mistral", [" <think>2 + 2</think>\n\nFour.\n</s>", " <think>hm</think>\n\nFive.</s>"]),
        // The end of text stands behind the last answer only.
        ("phi3", ["<think>2 + 2</think>\n\nFour.\n<|end|>\n\n", "<think>hm</think>\n\nFive.<|end|>\n\n</s>"]),
        ("marked", ["Four.\n<|im_end|>", "<think>hm</think>\n\nFive.<|im_end|>"]),
    ] {
        let chat = family(name);
        let parts = chat.parts(&turns, true).unwrap();
        let said: Vec<&str> = parts.iter().filter(|part| part.is_said).map(|part| part.text.as_str()).collect();
        assert_eq!(said, expected, "{name}");
        let whole: String = parts.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(whole, chat.render(&turns, false).unwrap().replace(SAID, ""), "{name}");
        if name != "marked" {
            let last = chat.parts(&turns, false).unwrap();
            assert_eq!((last.len(), last[1].text.as_str()), (2, expected[1]), "{name}");
            assert_eq!(last[0].text, chat.prompt(&turns).unwrap(), "{name}: the prompt is that of prediction");
        }
    }
    let error = family("chatml").parts(&turns[..2], true).unwrap_err().to_string();
    assert!(error.contains("no answer to learn from"), "{error}");
    let rewriting = chat("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}");
    assert!(rewriting.parts(&turns, true).unwrap_err().to_string().contains("writes earlier messages otherwise"));
}

#[test]
fn rows_become_messages() {
    let roles = |value: Value| -> Vec<(String, String)> {
        let messages = messages(&row(value)).unwrap();
        messages.iter().map(|one| (one.role().to_string(), one.content().unwrap().to_string())).collect()
    };
    let pair = |role: &str, content: &str| (role.to_string(), content.to_string());
    assert_eq!(
        roles(json!({"instruction": "Add.", "input": "", "output": 5})),
        [pair("user", "Add."), pair("assistant", "5")]
    );
    assert_eq!(roles(json!({"instruction": "Add.", "input": "2 3"})), [pair("user", "Add.\n\n2 3")]);
    let list = json!([{"role": "user", "content": "a"}]);
    assert_eq!(roles(json!({"messages": list, "output": "b"})), [pair("user", "a"), pair("assistant", "b")]);
    assert_eq!(roles(json!({"messages": list.to_string()})), [pair("user", "a")]);
    let answered = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]);
    assert_eq!(roles(json!({"messages": answered, "output": "b"})).len(), 2, "it has an answer");
    for (wrong, reason) in [
        (json!({}), "neither `messages` nor an `instruction`"),
        (json!({"messages": []}), "`messages` is empty"),
        (json!({"messages": 3}), "`messages` is `3`"),
        (json!({"messages": "hello"}), "no JSON list"),
        (json!({"messages": ["hello"]}), "expected a table with `role`"),
        (json!({"messages": [{"content": "x"}]}), "no `role`"),
        (json!({"messages": [{"role": "user"}]}), "no `content`"),
    ] {
        let error = messages(&row(wrong)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_row_with_messages_gets_the_columns_that_scores_read() {
    let mut filled = row(json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]}));
    fill_in(&mut filled, true).unwrap();
    assert_eq!((&filled["instruction"], &filled["output"]), (&json!("c"), &json!("d")));
    let mut own = row(json!({"messages": [{"role": "user", "content": "a"}], "instruction": "x", "output": "y"}));
    let before = own.clone();
    fill_in(&mut own, true).unwrap();
    assert_eq!(own, before);
    let mut open = row(json!({"messages": [{"role": "user", "content": "a"}]}));
    assert!(fill_in(&mut open, true).unwrap_err().to_string().contains("none of `assistant`"));
}

#[test]
fn the_system_speaks_first_unless_the_row_lets_it() {
    let settings = ChatSettings { system: Some("Be kind.".into()), ..ChatSettings::default() };
    let chat =
        Chat::new(&settings, &dialect("{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}")).unwrap();
    let text = |value: Value| chat.prompt(&chat.messages(&row(value)).unwrap()).unwrap();
    assert_eq!(text(json!({"instruction": "Hi."})), "[system: Be kind.][user: Hi.]");
    let own = json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]});
    assert_eq!(text(own), "[system: Be brief.][user: Hi.]");
}

#[test]
fn templates_see_no_clock() {
    let asks = "{{ strftime_now('%d %b %Y') }}";
    let one = read(&json!([{"role": "user", "content": "a"}]));
    let error = chat(asks).prompt(&one).unwrap_err().to_string();
    assert!(error.contains("asks for today's date") && error.contains("date = \""), "{error}");
    let settings = ChatSettings { date: Some("2024-07-05".into()), ..ChatSettings::default() };
    let dated = Chat::new(&settings, &dialect(asks)).unwrap();
    assert_eq!(dated.prompt(&one).unwrap(), "05 Jul 2024");
    let wrong = ChatSettings { date: Some("yesterday".into()), ..ChatSettings::default() };
    assert!(Chat::new(&wrong, &dialect(asks)).unwrap_err().to_string().contains("expected `2024-07-26`"));
}

#[test]
fn templates_get_variables_and_can_do_no_harm() {
    let one = read(&json!([{"role": "user", "content": "a"}]));
    let settings =
        ChatSettings { variables: [("enable_thinking".to_string(), json!(false))].into(), ..ChatSettings::default() };
    let thinking = "{% if enable_thinking is defined and enable_thinking is false %}no{% else %}yes{% endif %}";
    assert_eq!(Chat::new(&settings, &dialect(thinking)).unwrap().prompt(&one).unwrap(), "no");
    assert_eq!(chat(thinking).prompt(&one).unwrap(), "yes");
    let endless = "{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}";
    assert!(chat(endless).prompt(&one).unwrap_err().to_string().contains("fuel"));
    assert!(chat("{% include 'secret' %}").prompt(&one).is_err());
    let error = Chat::new(&ChatSettings::default(), &dialect("{% for %}")).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error:#}");
    let none = Chat::new(&ChatSettings::default(), &Dialect::default()).unwrap_err().to_string();
    assert!(none.contains("the model has no chat template"), "{none}");
}

#[test]
fn a_models_files_say_how_it_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert_eq!(Dialect::read(folder.path()).unwrap(), Dialect::default());
    write("special_tokens_map.json", r#"{"bos_token": "<a>", "additional_special_tokens": ["x"]}"#);
    write(
        "tokenizer_config.json",
        r#"{"eos_token": {"content": "<b>"}, "chat_template": "one", "add_bos_token": true}"#,
    );
    let read = Dialect::read(folder.path()).unwrap();
    let special = [("bos_token", "<a>"), ("eos_token", "<b>")];
    assert_eq!(read.special, special.map(|(name, token)| (name.to_string(), token.to_string())).into());
    assert_eq!(read.text.as_deref(), Some("one"));
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
    );
    assert_eq!(Dialect::read(folder.path()).unwrap().text.as_deref(), Some("d"));
    write("chat_template.jinja", "two");
    assert_eq!(Dialect::read(folder.path()).unwrap().text.as_deref(), Some("two"));
    write("tokenizer_config.json", "[]");
    assert!(Dialect::read(folder.path()).unwrap_err().to_string().contains("no JSON object"));
}

#[test]
fn the_oldest_turns_go_first() {
    let mut messages = read(&goldens()["conversations"]["turns"]);
    assert!(drop_oldest(&mut messages));
    let roles: Vec<&str> = messages.iter().map(Message::role).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert!(!drop_oldest(&mut messages));
}
