//! What is made of a reply: the text of its answer and what is said about it.

use super::Tokens;
use serde_json::Value;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Why it ended, in the server's word: `stop`, `length`, `content_filter`.
    pub finish: String,
    /// How many tokens were counted, if that is said.
    pub tokens: Option<Tokens>,
}

impl Reply {
    /// Reads a chat completion.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(reply: &Value) -> Result<Self, String> {
        let choice = reply.pointer("/choices/0").ok_or("it has no `choices`")?;
        let message = choice.get("message").ok_or("its first choice has no `message`")?;
        let finish = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default().to_string();
        let is_refused = finish == "content_filter" || message.get("refusal").is_some_and(Value::is_string);
        let text = match message.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_string);
                parts.iter().filter_map(text).collect()
            }
            // One who thinks until the limit has said nothing.
            None | Some(Value::Null) if is_refused || finish == "length" => String::new(),
            _ => return Err("its message has no text".to_string()),
        };
        let count = |name: &str| reply.get("usage")?.get(name)?.as_u64();
        let tokens = count("prompt_tokens").zip(count("completion_tokens"));
        Ok(Self { text, finish, tokens: tokens.map(|(input, output)| Tokens { input, output }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(message: Value, finish: &str) -> Result<Reply, String> {
        Reply::read(&json!({
            "choices": [{ "message": message, "finish_reason": finish }],
            "usage": { "prompt_tokens": 7, "completion_tokens": 2 },
        }))
    }

    #[test]
    fn the_text_is_found_in_the_forms_that_servers_give_it() {
        let plain = of(json!({ "content": " yes" }), "stop").unwrap();
        let tokens = Some(Tokens { input: 7, output: 2 });
        assert_eq!(plain, Reply { text: " yes".into(), finish: "stop".into(), tokens });
        let parts = json!({ "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] });
        assert_eq!(of(parts, "stop").unwrap().text, "ab");
        for (message, finish) in [
            (json!({ "content": null, "refusal": "No." }), "stop"),
            (json!({ "content": null }), "content_filter"),
            (json!({ "reasoning_content": "hm" }), "length"),
        ] {
            assert_eq!(of(message, finish).unwrap().text, "");
        }
        assert!(of(json!({ "content": null, "tool_calls": [] }), "tool_calls").unwrap_err().contains("no text"));
        assert!(Reply::read(&json!({ "error": "busy" })).unwrap_err().contains("no `choices`"));
        assert_eq!(Reply::read(&json!({ "choices": [{ "message": { "content": "" } }] })).unwrap().tokens, None);
    }
}
