//! `titer report`: the page as a file, as data, and as a reader meets it in a browser.

use crate::browser::Browser;
use crate::project::{Project, json, text};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

const P: &str = "pipelines/p.toml";
const REPORT: &str = "out/answers/report.html";

/// An answer that would take over the page if it could.
const EVIL: &str = "</script><script>window.taken = 1</script><img src=x onerror='window.taken = 1'>\u{2028}\u{202e}\0";

/// [`Project::answers`] with ids, one of whose answers is evil, which has run. `n = 6` has all nine rows, of which five are
/// right.
fn project() -> Project {
    let project = Project::answers();
    project.edit(P, "n = [2, 3, 5]", "n = [2, 3, 6]");
    let row = |i: usize, answer: &str| {
        let instruction = format!("Is {i} a number?");
        json!({ "id": format!("q{i}"), "instruction": instruction, "output": "yes", "prediction": answer }).to_string()
    };
    let rows: Vec<String> = (0..6).map(|i| row(i, if i % 2 == 0 { "yes" } else { "perhaps" })).collect();
    project.write("data/answers.jsonl", &rows.join("\n"));
    let row = json!({ "id": "evil", "instruction": EVIL, "output": "yes", "prediction": EVIL, "task": "a/\"b\"" });
    project.write("data/more.jsonl", &format!("{row}\n{}", project.read("data/more.jsonl")));
    project.run();
    project
}

/// What a written page shows.
fn shown(project: &Project, path: &str) -> Value {
    let html = project.read(path);
    let json = html.split_once("id=\"page\">").and_then(|(_, rest)| rest.split_once("</script>")).unwrap().0;
    serde_json::from_str(json).unwrap()
}

fn address(project: &Project, path: &str) -> String {
    format!("file://{}", project.path(path).canonicalize().unwrap().display())
}

#[test]
fn a_page_has_what_was_asked_and_what_became_of_it() {
    let project = project();
    let told = json(&project, &["report", P]);
    assert_eq!((&told["rows"], &told["systems"], &told["tables"]), (&json!(20), &json!(3), &json!(1)), "{told}");
    let size = std::fs::metadata(project.path(REPORT)).unwrap().len();
    assert_eq!(told["bytes"], size);
    let page = shown(&project, REPORT);
    assert!(page["texts"][0]["name"] == P && page["texts"][0]["text"] == project.read(P));
    assert!(page["graph"].as_str().unwrap().starts_with("<svg") && page["run"]["outcome"] == "done");
    assert_eq!(page["run"]["counts"]["ran"], 10);
    let instances = page["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 10);
    assert!(instances.iter().all(|one| one["state"] == "ran" && one["device"] == "cpu" && one["host"].is_string()));
    let table = &page["tables"][0];
    assert_eq!(
        (&table["instance"], &table["by"], &table["columns"][0]),
        (&json!("aggregate.table"), &json!(["n"]), &json!("n"))
    );
    let sets = page["sets"].as_array().unwrap();
    let of = |set: &Value| (set["axes"]["n"].clone(), set["rows"].clone());
    assert_eq!(
        sets.iter().map(of).collect::<Vec<_>>(),
        [(json!(2), json!(5)), (json!(3), json!(6)), (json!(6), json!(9))]
    );
    assert_eq!(sets[0]["metrics"][0], "em");
    assert!(sets[0]["metrics"].as_array().unwrap().contains(&json!("rouge.rougeL")), "{}", sets[0]);
    assert!(sets[0]["columns"].as_array().unwrap().contains(&json!("task")));
    // All that was there was cached the next time.
    project.run();
    text(&project, &["report", P]);
    let page = shown(&project, REPORT);
    assert!(page["instances"].as_array().unwrap().iter().all(|one| one["state"] == "cached"));
}

#[test]
fn a_reader_sorts_searches_and_opens_the_rows_behind_a_number() {
    let Some(mut browser) = Browser::start() else { return };
    let project = project();
    text(&project, &["report", P]);
    browser.open(&address(&project, REPORT));
    // Sorted by a column, both ways.
    let first = "document.querySelector('#tables tbody td').textContent";
    let head = "document.querySelector('#tables th')";
    assert_eq!(browser.value(first), "2");
    browser.value(&format!("{head}.firstChild.click()"));
    assert_eq!((browser.value(first), browser.value(&format!("{head}.ariaSort"))), (json!("2"), json!("ascending")));
    browser.value(&format!("{head}.firstChild.click()"));
    assert_eq!((browser.value(first), browser.value(&format!("{head}.ariaSort"))), (json!("6"), json!("descending")));
    // Searched: the instances.
    let lines =
        "[...document.querySelectorAll('table[aria-label=Instances] tbody tr')].map((row) => row.cells[0].textContent)";
    assert_eq!(browser.value(lines).as_array().unwrap().len(), 10);
    search(&mut browser, "[aria-label='Search in Instances']", "MIX");
    browser.until(&format!("{lines}.length === 3"));
    browser.until("document.getElementById('said').textContent === '3 of 10 rows'");
    // A cell, by the keyboard: em of n = 6.
    browser.value("document.querySelector('#tables td').focus()");
    browser.press("ArrowRight");
    browser.press("Enter");
    let about = "(document.getElementById('rows-about')?.textContent ?? '')";
    browser.until(&format!("{about}.includes('mean em')"));
    assert_eq!(browser.value("document.querySelector('dialog h2').textContent"), "em, n = 6");
    assert_eq!(browser.value(about), "9 rows; mean em 0.5556.");
    let listed = "[...document.querySelectorAll('.layer .line')].map((line) => line.children[3].textContent)";
    browser.until(&format!("{listed}.every((text) => text !== '')"));
    let answers = browser.value(listed);
    assert!(answers.as_array().unwrap().contains(&json!("perhaps")), "{answers}");
    // A search in the texts, and the row as a whole.
    search(&mut browser, "dialog input[type=search]", "TAKEN");
    browser.until(&format!("{about}.startsWith('1 of 9 rows')"));
    browser.until("document.querySelectorAll('.detail .text').length === 3");
    let texts = browser.value("[...document.querySelectorAll('.detail .text')].map((text) => text.textContent)");
    let seen = EVIL.replace('\u{2028}', "U+2028").replace('\u{202e}', "U+202E").replace('\0', "U+0000");
    assert_eq!(texts, json!([seen, "yes", seen]));
    // Nothing of it was markup.
    assert_eq!(
        browser.value("[window.taken ?? null, document.querySelectorAll('script').length, document.images.length]"),
        {
            let scripts = project.read(REPORT).matches("<script").count();
            json!([null, scripts, 1])
        }
    );
    // Closed, the page is where it was, and the focus is on the cell.
    browser.press("Escape");
    browser.until("!document.querySelector('dialog').open && location.hash === ''");
    assert_eq!(browser.value("document.activeElement.cellIndex"), 1);
    assert_eq!(browser.trouble(), [""; 0]);
    assert_eq!(browser.requests(), [address(&project, REPORT)]);
}

#[test]
fn two_systems_and_two_runs_side_by_side() {
    let project = project();
    project.edit("data/answers.jsonl", "perhaps", "perhaps not");
    project.run();
    let told = json(&project, &["report", P, "--against", "last~1"]);
    assert_eq!(told["warnings"], 0, "{told}");
    let page = shown(&project, REPORT);
    assert!(page["sets"].as_array().unwrap().iter().all(|set| set["before"] == true));
    let Some(mut browser) = Browser::start() else { return };
    // The rows of one system, as a link to them has it.
    let key = page["sets"][2]["key"].as_str().unwrap();
    let link = format!("#rows=%7B%22sets%22%3A%5B%22{key}%22%5D%7D");
    browser.open(&format!("{}{link}", address(&project, REPORT)));
    let about = "(document.getElementById('rows-about')?.textContent ?? '')";
    browser.until(&format!("{about}.startsWith('9 rows')"));
    browser.value("document.querySelector('dialog input[type=checkbox]').click()");
    browser.until(&format!("{about}.startsWith('3 of 9 rows')"));
    let names = "[...document.querySelectorAll('.answers h4')].map((name) => name.textContent)";
    let before = format!("before, in run {}", page["against"]["id"].as_str().unwrap());
    browser.until(&format!("{names}.length === 2"));
    assert_eq!(browser.value(names), json!(["n=6", before]));
    let texts = "[...document.querySelectorAll('.answers .text')].map((text) => text.textContent)";
    assert_eq!(browser.value(texts), json!(["perhaps not", "perhaps"]));
    let marked = "[...document.querySelectorAll('.answers mark')].map((mark) => mark.textContent)";
    assert_eq!(browser.value(marked), json!(["not"]));
    // Beside it another system, for a row that both have.
    browser.value("document.querySelector('dialog input[type=checkbox]').click()");
    search(&mut browser, "dialog input[type=search]", "taken");
    browser.until(&format!("{about}.startsWith('1 of 9 rows')"));
    browser.until("document.querySelector('.detail .about')?.textContent === 'Row 1 of 1 · evil'");
    choose(&mut browser, ".detail select", page["sets"][0]["key"].as_str().unwrap());
    browser.until(&format!("{names}.length === 3"));
    assert_eq!(browser.value(names), json!(["n=6", "n=2", before]));
    let heads = "[...document.querySelectorAll('.detail thead th')].map((head) => head.textContent)";
    assert_eq!(browser.value(heads), json!(["n=6", "n=2", "difference", before, "difference"]));
    // Ordered by a score: what has none comes last.
    search(&mut browser, "dialog input[type=search]", "");
    choose(&mut browser, "dialog header select", "+em");
    browser.until(&format!("{about}.startsWith('9 rows')"));
    let scores = "[...document.querySelectorAll('.layer .line')].map((line) => line.children[4].textContent)";
    browser.until(&format!("{scores}.join('') === '000011111'"));
    assert_eq!(browser.trouble(), [""; 0]);
}

/// Types into a field.
fn search(browser: &mut Browser, field: &str, words: &str) {
    browser.value(&format!(
        "(() => {{ const field = document.querySelector({field:?}); field.value = {words:?}; \
         field.dispatchEvent(new Event('input')); }})()"
    ));
}

/// Chooses an entry.
fn choose(browser: &mut Browser, field: &str, entry: &str) {
    browser.value(&format!(
        "(() => {{ const field = document.querySelector({field:?}); field.value = {entry:?}; \
         field.dispatchEvent(new Event('change')); }})()"
    ));
}

#[test]
fn a_served_page_follows_a_run() {
    let project = Project::answers();
    let mut command = project.command(&["report", P, "--serve", "--port", "0", "--json"]);
    let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = serde_json::from_str::<Value>(&line).unwrap()["page"].as_str().unwrap().to_string();
    let host = address.trim_start_matches("http://").trim_end_matches('/').to_string();
    let ask = |path: &str, name: &str| {
        let mut stream = TcpStream::connect(&host).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/", &host).starts_with("HTTP/1.1 200 OK"));
    assert!(ask("/", "evil.example").starts_with("HTTP/1.1 403"), "another site's name that leads here");
    for path in ["/../p.toml", "/pieces/../p.toml", "/pieces/t0", "/cache/VERSION", "/page"] {
        assert!(ask(path, &host).starts_with("HTTP/1.1 404"), "{path}");
    }
    let Some(mut browser) = Browser::start() else { return stop(server) };
    browser.open(&address);
    browser.until("document.getElementById('about').textContent.includes('has not run yet')");
    project.run();
    browser.until("document.querySelectorAll('#tables tbody tr').length === 3");
    browser.value("document.querySelectorAll('#tables td')[1].click()");
    browser.until("document.querySelector('.detail .text') !== null");
    browser.press("Escape");
    browser.until("!document.querySelector('dialog').open");
    assert_eq!(browser.trouble(), [""; 0]);
    stop(server);
    browser.until("document.getElementById('live').className.includes('lost')");
    assert!(browser.requests().iter().all(|asked| asked.starts_with(&address)), "{:?}", browser.requests());
}

/// Ctrl-C, which ends it without an error.
fn stop(mut server: Child) {
    kill_process(Pid::from_child(&server), Signal::INT).unwrap();
    assert!(server.wait().unwrap().success());
}

#[test]
fn what_is_missing_is_said_on_the_page() {
    let project = Project::answers();
    // Nothing has run.
    let output = project.titer(&["report", P]);
    assert!(output.code == 0 && output.out.contains("it has not run yet"), "{output:?}");
    let page = shown(&project, REPORT);
    assert!(page["run"].is_null() && page["instances"][0]["state"] == "will run", "{page}");
    assert!(!project.path("cache").exists(), "a look makes no cache");
    // The last run was called otherwise.
    project.run_with(&["--axis", "n=2"]);
    let output = project.titer(&["report", P]);
    assert!(output.err.contains("`titer report pipelines/p.toml --axis n=2` shows it"), "{output:?}");
    assert_eq!(json(&project, &["report", P, "--axis", "n=2"])["tables"], 1);
    // Data that has moved away.
    project.run();
    std::fs::rename(project.path("data"), project.path("moved")).unwrap();
    let output = project.titer(&["report", P]);
    assert!(output.code == 0 && output.err.contains("what it reads cannot be read now"), "{output:?}");
    assert_eq!(shown(&project, REPORT)["tables"].as_array().unwrap().len(), 1);
    // An object that is gone: the answers of n = 5.
    std::fs::rename(project.path("moved"), project.path("data")).unwrap();
    let told = json(&project, &["show", P, "score.quality[n=5,scorer=em]"]);
    let object = told[0]["record"]["outputs"][0]["digest"].as_str().unwrap().to_string();
    std::fs::remove_file(project.path(&format!("cache/objects/{}/{object}", &object[..2]))).unwrap();
    let told = json(&project, &["report", P]);
    assert_eq!((&told["systems"], &told["tables"], &told["warnings"]), (&json!(3), &json!(1), &json!(1)), "{told}");
    let page = shown(&project, REPORT);
    assert_eq!(page["sets"][2]["metrics"].as_array().unwrap().iter().filter(|name| *name == "em").count(), 0);
}

#[test]
fn a_reader_is_warned() {
    let project = Project::empty();
    project.write("taught.jsonl", &format!("{}\n{}\n", question(1), question(2)));
    project.write("asked.jsonl", &format!("{}\n{}\n{}\n", question(2), question(3), question(4)));
    let metrics = r#"{"step":1,"loss":2.5}\n{"step":1,"validation_loss":2.25,"best":true}"#;
    project.write(
        P,
        &format!(
            r#"titer = 1
name = "w"
[mix.taught]
sources = [{{ path = "taught.jsonl" }}]
[mix.asked]
sources = [{{ path = "asked.jsonl" }}]
[train.model]
command = ["sh", "-c", "mkdir $0/model; echo 1 > $0/model/w; printf '%b\n' '{}' > $0/metrics.jsonl", "{{output}}"]
gpus = 1
data = "mix.taught"
outputs = ["model", "metrics"]
[predict.answers]
command = ["sh", "-c", "sed 's/}}$/,\"prediction\":\"yes\"}}/' $1 > $0/predictions.jsonl", "{{output}}", "{{input.data}}"]
model = "train.model"
data = "mix.asked"
[score.em]
predictions = "predict.answers"
scorers = ["exact_match"]
[aggregate.table]
from = "score.em"
by = []
"#,
            metrics.replace('"', "\\\"")
        ),
    );
    project.run_with(&["--gpus", "7"]);
    text(&project, &["report", P]);
    let page = shown(&project, "out/w/report.html");
    let warnings: Vec<&str> =
        page["warnings"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert!(warnings.contains(&"1 of 3 questions are among the training rows of `train.model`"), "{warnings:?}");
    let mixed = "what it rests on was made on different kinds of device: cpu (4), cuda (2)";
    assert!(warnings.contains(&mixed), "{warnings:?}");
    assert_eq!(page["curves"][0]["validation"], json!([[1.0, 2.25, true]]));
    assert_eq!(page["sets"][0]["rows"], 3);
}

fn question(number: usize) -> String {
    json!({ "instruction": format!("What is {number}?"), "output": "yes" }).to_string()
}

#[test]
fn what_cannot_be_written_or_found() {
    let project = Project::answers();
    project.refuses(&["report", P, "-o", "nowhere/page.html"], 2, &["there is no folder `nowhere`"]);
    project.refuses(&["report", P, "-o", "data"], 2, &["`data` is a folder", "data/report.html"]);
    project.refuses(&["report", "pipelines/q.toml"], 2, &["there is no manifest `pipelines/q.toml`"]);
    project.refuses(&["report", P, "--against", "last"], 2, &["nothing has run yet"]);
    project.refuses(&["report", P, "--port", "9"], 2, &["--serve"]);
    project.refuses(&["report", P, "--serve", "-o", "x.html"], 2, &["cannot be used with"]);
    project.run();
    project.refuses(&["report", P, "--against", "2020"], 2, &["there is no run `2020`"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    project.refuses(&["report", P, "--serve", "--port", &port], 2, &["is taken by another program", "--port 0"]);
    project.edit(P, "[score.quality]", "[score.qualiti]");
    project.refuses(&["report", P], 2, &["score.qualiti"]);
}
