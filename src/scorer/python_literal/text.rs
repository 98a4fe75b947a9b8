//! Strings and bytes: prefixes, quotes and escapes.

use super::Literal;
use anyhow::{bail, ensure};

/// What stands before the quotes.
#[derive(Clone, Copy, Default)]
struct Prefix {
    is_raw: bool,
    is_bytes: bool,
}

/// The string that `text` begins with, and the rest. `None` if it begins with none.
pub(super) fn read(text: &str) -> anyhow::Result<Option<(Literal, &str)>> {
    let Some(at) = text.find(['\'', '"']).filter(|at| *at <= 2) else { return Ok(None) };
    let prefix = match text[..at].to_ascii_lowercase().as_str() {
        "" | "u" => Prefix::default(),
        "r" => Prefix { is_raw: true, ..Prefix::default() },
        "b" => Prefix { is_bytes: true, ..Prefix::default() },
        "rb" | "br" => Prefix { is_raw: true, is_bytes: true },
        "f" | "fr" | "rf" => bail!("a string that computes"),
        _ => return Ok(None),
    };
    let quoted = &text[at..];
    let quote = &quoted[..1];
    let triple = quote.repeat(3);
    let is_triple = quoted.starts_with(&triple);
    let quote = if is_triple { triple.as_str() } else { quote };
    let body = &quoted[quote.len()..];
    let end = end(body, quote)?;
    let value = if prefix.is_raw { raw(&body[..end]) } else { unescape(&body[..end], prefix.is_bytes)? };
    let rest = &body[end + quote.len()..];
    if !prefix.is_bytes {
        return Ok(Some((Literal::Text(value), rest)));
    }
    ensure!(body[..end].is_ascii(), "bytes beyond ASCII");
    // Escapes of bytes hold eight bits.
    let bytes = value.into_iter().map(|byte| u8::try_from(byte & 0xff).unwrap_or_default()).collect();
    Ok(Some((Literal::Bytes(bytes), rest)))
}

/// Where the closing quotes are. A backslash takes the next character with it, in raw strings too.
fn end(body: &str, quote: &str) -> anyhow::Result<usize> {
    let bytes = body.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' if quote.len() == 1 => bail!("a string that does not end in its line"),
            _ if bytes[at..].starts_with(quote.as_bytes()) => return Ok(at),
            _ => {}
        }
        at += 1;
    }
    bail!("a string that does not end")
}

fn raw(body: &str) -> Vec<u32> {
    body.chars().map(u32::from).collect()
}

fn unescape(body: &str, is_bytes: bool) -> anyhow::Result<Vec<u32>> {
    let mut value = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(u32::from(c));
            continue;
        }
        let Some(escaped) = chars.next() else { bail!("a backslash before nothing") };
        let length = match escaped {
            'x' => 2,
            'u' if !is_bytes => 4,
            'U' if !is_bytes => 8,
            'N' if !is_bytes => bail!("a character by its name"),
            '0'..='7' => {
                value.push(octal(escaped, &mut chars));
                continue;
            }
            '\n' => continue,
            _ => {
                match simple(escaped) {
                    Some(c) => value.push(c),
                    // What is no escape stays as it is.
                    None => value.extend([u32::from('\\'), u32::from(escaped)]),
                }
                continue;
            }
        };
        let digits =
            chars.as_str().get(..length).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(digits) = digits else { bail!("an escape without its {length} digits") };
        let code = u32::from_str_radix(digits, 16)?;
        ensure!(code <= u32::from(char::MAX), "a character beyond Unicode");
        value.push(code);
        chars = chars.as_str()[length..].chars();
    }
    Ok(value)
}

/// One to three octal digits.
fn octal(first: char, chars: &mut std::str::Chars<'_>) -> u32 {
    let mut code = first.to_digit(8).unwrap_or_default();
    for _ in 0..2 {
        let Some(digit) = chars.as_str().chars().next().and_then(|c| c.to_digit(8)) else { break };
        code = code * 8 + digit;
        chars.next();
    }
    code
}

fn simple(escaped: char) -> Option<u32> {
    Some(match escaped {
        '\\' | '\'' | '"' => u32::from(escaped),
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        _ => return None,
    })
}
