//! The document: its shell, its policy, and the inert elements that hold the data.

use super::{Page, Pieces};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};

const SHELL: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// The parts of the script, in order; they share one scope.
const SCRIPT: [&str; 9] = [
    include_str!("dom.js"),
    include_str!("store.js"),
    include_str!("table.js"),
    include_str!("results.js"),
    include_str!("drawings.js"),
    include_str!("stages.js"),
    include_str!("detail.js"),
    include_str!("rows.js"),
    include_str!("live.js"),
];

/// Writes the page with all of its rows as one file.
///
/// # Errors
/// If the pieces cannot be read or the file cannot be written.
pub fn write(page: &Page, pieces: &mut Pieces, out: &mut impl Write) -> io::Result<()> {
    out.write_all(shell(page, false).as_bytes())?;
    for name in pieces.names() {
        let packed = pieces.get(&name)?.unwrap_or_default();
        writeln!(out, "<script type=\"application/octet-stream\" id=\"{name}\">{}</script>", STANDARD.encode(packed))?;
    }
    out.write_all(END.as_bytes())
}

const END: &str = "</body>\n</html>\n";

/// The page without rows: as the begin of a file, or as a document that asks its server for them.
pub fn shell(page: &Page, served: bool) -> String {
    let script = format!("'use strict';\n(() => {{\n{}}})();\n", SCRIPT.concat());
    let mut document = String::new();
    let mut rest = SHELL;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, tail)| Some((before, tail.split_once("}}")?)))
    {
        document.push_str(before);
        match name {
            "policy" => document.push_str(&policy(&script, served)),
            "title" => document.push_str(&escape(&format!("{}: report", page.pipeline))),
            "style" => document.push_str(STYLE),
            _ => {}
        }
        rest = after;
    }
    document.push_str(rest);
    let mark = if served { " data-served" } else { "" };
    document.push_str(&format!("<script type=\"application/json\" id=\"page\"{mark}>{}</script>\n", inert(page)));
    document.push_str(&format!("<script>{script}</script>\n"));
    if served {
        document.push_str(END);
    }
    document
}

/// Nothing is loaded, and nothing runs but this script: it may not even make markup of text.
fn policy(script: &str, served: bool) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let mut rules = vec![
        "default-src 'none'".to_string(),
        format!("script-src {}", hash(script)),
        format!("style-src {}", hash(STYLE)),
        "img-src data:".to_string(),
        "base-uri 'none'".to_string(),
        "form-action 'none'".to_string(),
        "require-trusted-types-for 'script'".to_string(),
        "trusted-types 'none'".to_string(),
    ];
    if served {
        rules.push("connect-src 'self'".to_string());
    }
    rules.join("; ")
}

/// JSON that ends no element and begins no comment, whatever its texts say.
fn inert(page: &Page) -> String {
    // Cannot fail: names are strings, numbers of a page become null if they are not finite.
    serde_json::to_string(page).unwrap_or_default().replace('<', "\\u003c")
}

/// HTML's special characters escaped; control characters left out.
fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
