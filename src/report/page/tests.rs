use super::*;
use flate2::read::DeflateDecoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;

/// What a page must survive: the end of an element, markup that runs, characters that end a line of a script or turn text
/// around, the begin of a comment.
const EVIL: &str = "</script><script>x()</script><img src=x onerror=x()><!-- \u{2028}\u{202e}\0&lt;";

fn line(columns: Value, scores: &[Option<f64>]) -> std::io::Result<Line> {
    let Value::Object(columns) = columns else { panic!("a row is an object") };
    Ok(Line { columns, scores: scores.to_vec(), ..Line::default() })
}

fn pieces() -> Pieces {
    Pieces::new(tempfile::tempfile().unwrap())
}

fn unpacked(pieces: &mut Pieces, name: &str) -> Value {
    let packed = pieces.get(name).unwrap().unwrap_or_else(|| panic!("there is no piece `{name}`"));
    let mut text = String::new();
    DeflateDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn written(page: &Page, pieces: &mut Pieces) -> String {
    let mut out = Vec::new();
    write(page, pieces, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The text between two others.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).unwrap_or_else(|| panic!("no `{from}`")).0
}

#[test]
fn what_comes_from_data_is_inert() {
    let mut pieces = pieces();
    let row = json!({ "id": EVIL, "prediction": format!("{EVIL}{}", "long ".repeat(20)) });
    pieces.add(EVIL, &[EVIL.to_string()], [line(row, &[Some(1.0)])].into_iter()).unwrap();
    let text = || Text { name: EVIL.to_string(), text: EVIL.to_string() };
    let warning = Warning { about: Some(EVIL.to_string()), text: EVIL.to_string() };
    let table = Table { columns: vec![EVIL.to_string()], rows: vec![vec![json!(EVIL)]], ..Table::default() };
    let page = Page {
        pipeline: EVIL.to_string(),
        texts: vec![text()],
        warnings: vec![warning],
        tables: vec![table],
        index: pieces.index().clone(),
        ..Page::default()
    };
    let html = written(&page, &mut pieces);
    // The document, the script, a piece of texts and a piece of rows.
    assert_eq!((html.matches("<script").count(), html.matches("</script").count()), (4, 4));
    assert!(!html.contains("<img") && !html.contains("<!--") && !html.contains('\0'));
    let json = between(&html, "id=\"page\">", "</script>");
    let read: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&read["texts"][0]["text"], &read["pipeline"]), (&json!(EVIL), &json!(EVIL)));
}

#[test]
fn nothing_runs_but_the_one_script_and_nothing_is_loaded() {
    let html = written(&Page::default(), &mut pieces());
    let policy = between(&html, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text))
    };
    let script = hash(between(&html, "<script>", "</script>"));
    let style = hash(between(&html, "<style>", "</style>"));
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(policy.contains(&format!("script-src 'sha256-{script}';")), "{policy}");
    assert!(policy.contains(&format!("style-src 'sha256-{style}';")), "{policy}");
    assert!(!policy.contains("connect-src") && !policy.contains("unsafe"), "{policy}");
    assert!(!html.contains("http://") || html.matches("http://").count() == html.matches("http://www.w3.org/").count());
    // Its own server is the one that a served page may ask, and it asks that for the rows.
    let served = shell(&Page::default(), true);
    assert!(served.contains("connect-src 'self'") && served.ends_with("</html>\n"));
}

#[test]
fn rows_are_found_again_with_each_text_kept_once() {
    let mut pieces = pieces();
    let long = |number: usize| format!("{number}: {}", "a text that is kept apart ".repeat(40));
    // More rows than a piece has; the questions repeat.
    let rows =
        (0..5000).map(|i| line(json!({ "id": i, "input": long(i % 700), "prediction": "short" }), &[Some(0.5), None]));
    let metrics = ["em".to_string(), "f1".to_string()];
    pieces.add("a", &metrics, rows).unwrap();
    pieces.add("b", &[], [line(json!({ "input": long(3), "list": [1, 2] }), &[])].into_iter()).unwrap();
    assert_eq!(pieces.shape("a"), Some(&(5000, ["id", "input", "prediction"].map(String::from).to_vec())));
    assert_eq!(pieces.shape("c"), None);
    let index = pieces.index().clone();
    assert_eq!(index.sets["a"], [("r0".to_string(), 4096), ("r1".to_string(), 904)]);
    let texts: Vec<Value> = (0..index.texts.len()).map(|number| unpacked(&mut pieces, &format!("t{number}"))).collect();
    assert!(texts.len() > 2, "700 kB are several pieces");
    let counts: Vec<usize> = texts.iter().map(|list| list.as_array().unwrap().len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 700);
    assert_eq!(index.texts[2], counts[0] + counts[1]);
    let all: Vec<&Value> = texts.iter().flat_map(|list| list.as_array().unwrap()).collect();
    let second = unpacked(&mut pieces, "r1");
    let number = second["columns"]["input"][4].as_array().unwrap()[0].as_u64().unwrap() as usize;
    assert_eq!(all[number], &json!(long((4096 + 4) % 700)));
    assert_eq!((&second["columns"]["id"][4], &second["columns"]["prediction"][4]), (&json!(4100), &json!("short")));
    assert_eq!((&second["scores"]["em"][0], &second["scores"]["f1"][0]), (&json!(0.5), &json!(null)));
    let other = unpacked(&mut pieces, "r2");
    assert_eq!((&other["columns"]["input"][0], &other["columns"]["list"][0]), (&json!([3]), &json!("[1,2]")));
}

#[test]
fn columns_and_earlier_answers_may_be_missing_in_some_rows() {
    let mut pieces = pieces();
    let before = Before { prediction: json!("no"), scores: vec![Some(0.0)] };
    let rows = [
        line(json!({ "id": "1" }), &[None]).map(|line| Line { kept: vec![("n > 0".to_string(), Some(false))], ..line }),
        line(json!({ "id": "2", "late": true }), &[Some(1.0)]).map(|line| Line { before: Some(before), ..line }),
        line(json!({ "id": "3" }), &[Some(1.0)]),
    ];
    pieces.add("a", &["em".to_string()], rows.into_iter()).unwrap();
    let block = unpacked(&mut pieces, "r0");
    assert_eq!(block["kept"]["n > 0"], json!([false, null, null]));
    assert_eq!(block["columns"]["late"], json!([null, true, null]));
    assert_eq!(block["scores"]["em"], json!([null, 1.0, 1.0]));
    assert_eq!(
        (&block["before"]["prediction"], &block["before_scores"]["em"]),
        (&json!([null, "no", null]), &json!([null, 0.0, null]))
    );
}

#[test]
fn a_row_that_cannot_be_had_leaves_no_set() {
    let mut pieces = pieces();
    let rows = [line(json!({ "id": "1" }), &[]), Err(std::io::Error::other("cut off"))];
    assert_eq!(pieces.add("a", &[], rows.into_iter()).unwrap_err().to_string(), "cut off");
    assert!(pieces.shape("a").is_none() && pieces.index().sets.is_empty());
}
