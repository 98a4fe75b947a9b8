//! What stands in the brackets of references and selectors, `axis=value,axis=value`: one grammar, read and written here.
//!
//! A value is bare, or quoted where it holds what the brackets mean something by: `[file="a,b.jsonl"]`. Double quotes
//! know the escapes of JSON (and so of TOML); between single quotes everything stands for itself.

use std::borrow::Cow;
use std::fmt;

/// Axes with the text of the value that they are pinned to, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(pub Vec<(String, String)>);

impl Pins {
    /// Reads what stands after a `[`, up to the `]` that closes it; returns what comes after that too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<(Self, &str), String> {
        let mut pins = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start();
            let Some(next) = rest.chars().next() else { return Err(format!("`[{text}` does not end with `]`")) };
            match next {
                ']' => return Ok((Self(pins), &rest[1..])),
                ',' => rest = &rest[1..],
                _ => {
                    let end = rest.find(['=', ',', ']']).unwrap_or(rest.len());
                    let Some(value) = rest[end..].strip_prefix('=') else {
                        let part = rest[..end].trim_end();
                        let hint = "a value that holds `,`, `]` or a quote stands in quotes: `[axis=\"a,b\"]`";
                        return Err(format!("`{part}` is not `axis=value`; {hint}"));
                    };
                    let axis = rest[..end].trim_end().to_string();
                    let (value, after) = value_of(value.trim_start())?;
                    pins.push((axis, value));
                    rest = after;
                }
            }
        }
    }

    /// The value that an axis is pinned to.
    pub fn get(&self, axis: &str) -> Option<&str> {
        self.0.iter().find(|(pinned, _)| pinned == axis).map(|(_, value)| value.as_str())
    }
}

/// A value, and what comes after it: nothing, `,…` or `]…`.
fn value_of(text: &str) -> Result<(String, &str), String> {
    let Some(quote) = text.chars().next().filter(|first| ['"', '\''].contains(first)) else {
        let end = text.find([',', ']']).unwrap_or(text.len());
        return Ok((text[..end].trim_end().to_string(), &text[end..]));
    };
    let mut escaped = false;
    let is_end = |c: char| {
        let ends = !escaped && c == quote;
        escaped = !escaped && c == '\\' && quote == '"';
        ends
    };
    let end = text[1..].find(is_end).ok_or_else(|| format!("the quote of `{text}` is not closed"))? + 1;
    let (quoted, after) = (&text[..=end], text[end + 1..].trim_start());
    let value = match quote {
        '"' => serde_json::from_str(quoted).map_err(|_| format!("`{quoted}` has an escape that JSON does not know"))?,
        _ => quoted[1..end].to_string(),
    };
    match after.chars().next() {
        None | Some(',' | ']') => Ok((value, after)),
        Some(_) => Err(format!("`{after}` comes after the quotes of `{quoted}`: expected `,` or `]`")),
    }
}

/// A value as it is written: bare where it is read back so.
pub fn quoted(value: &str) -> Cow<'_, str> {
    let is_bare = |c: char| !(c.is_whitespace() || c.is_control() || ",=[]\"'\\".contains(c));
    match !value.is_empty() && value.chars().all(is_bare) {
        true => value.into(),
        false => serde_json::Value::from(value).to_string().into(),
    }
}

/// With the brackets; nothing where there is no pin.
impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (axis, value)) in self.0.iter().enumerate() {
            write!(f, "{}{axis}={}", if number == 0 { '[' } else { ',' }, quoted(value))?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str("]") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let (pins, rest) = Pins::parse(text).unwrap();
        assert_eq!(rest, "", "{text}");
        pins.0
    }

    fn pin(axis: &str, value: &str) -> (String, String) {
        (axis.to_string(), value.to_string())
    }

    #[test]
    fn values_are_bare_or_quoted() {
        assert_eq!(read("n=80, run = 1 ,]"), [pin("n", "80"), pin("run", "1")]);
        assert_eq!(read(r#"x="a,b]" , y='say "hi"',z=]"#), [pin("x", "a,b]"), pin("y", "say \"hi\""), pin("z", "")]);
        assert_eq!(read(r#"x="\"\\\u00e9",y=a=b c]"#), [pin("x", "\"\\é"), pin("y", "a=b c")]);
        assert_eq!(read(r"x='\']"), [pin("x", "\\")]);
        assert_eq!(Pins::parse("n=1].train").unwrap().1, ".train");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, message) in [
            ("n=1", "`[n=1` does not end with `]`"),
            ("x=a,b]", "`b` is not `axis=value`; a value that holds `,`"),
            ("x=\"a]", "the quote of `\"a]` is not closed"),
            ("x=\"a\"b]", "`b]` comes after the quotes of `\"a\"`"),
            ("x=\"\\q\"]", "has an escape that JSON does not know"),
        ] {
            let error = Pins::parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn only_what_must_be_is_quoted() {
        for bare in ["80", "1e-3", "a/b.jsonl", "C++", "é", "{n}", "*"] {
            assert_eq!(quoted(bare), bare);
        }
        assert_eq!(quoted("a, \"b\""), "\"a, \\\"b\\\"\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
