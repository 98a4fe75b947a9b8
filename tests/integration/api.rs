//! Predictions by a model behind an API: a server on this machine.

use crate::project::{Output, Project};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const M: &str = "pipelines/p.toml";
const SECRET: &str = "sk-l4b-s3cret/key";

/// Answers `N` to `Say N.`, after a while, as long as the key is right.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    fn start(pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let (mut length, mut key, mut line) = (0, String::new(), String::new());
                    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                        match line.to_lowercase().split_once(": ") {
                            Some(("content-length", value)) => length = value.trim().parse().unwrap(),
                            Some(("authorization", _)) => key = line["authorization: ".len()..].trim().to_string(),
                            _ => {}
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    let said = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
                    let said = said.trim_start_matches("Say ").trim_end_matches('.').to_string();
                    let (status, reply) = match key == format!("Bearer {SECRET}") {
                        true => (
                            "200 OK",
                            json!({
                                "choices": [{ "message": { "content": format!(" {said}\n") }, "finish_reason": "stop" }],
                                "usage": { "prompt_tokens": 9, "completion_tokens": 3 },
                            }),
                        ),
                        // As if it wanted to give it away.
                        false => ("401 Unauthorized", json!({ "error": { "message": format!("bad {key}") } })),
                    };
                    heard.lock().unwrap().push(body);
                    std::thread::sleep(pause);
                    let reply = reply.to_string();
                    let length = reply.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{reply}"
                    );
                });
            }
        });
        Self { url, asked }
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn rows(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("{{\"instruction\":\"Say {n}.\",\"output\":\"{n}\"}}\n")).collect()
}

/// Asks for 100 rows, and scores the answers.
fn project(server: &Server) -> Project {
    let project = Project::empty();
    project.write("data/rows.jsonl", &rows(0..100));
    project.write(
        M,
        &format!(
            "titer = 1\nname = \"p\"\n[predict.a]\ndata = \"data/rows.jsonl\"\nmax_new_tokens = 10\n\
             model = {{ api = \"{}\", model = \"m-1\", key = \"{{env:LAB_KEY}}\" }}\n\
             [score.s]\npredictions = \"predict.a\"\nscorers = [\"exact_match\"]\n",
            server.url
        ),
    );
    project
}

fn titer(project: &Project, args: &[&str], key: &str) -> Output {
    project.command(args).env("LAB_KEY", key).output().unwrap().into()
}

/// Nothing that is kept holds the text; nor may what was said.
fn is_nowhere(project: &Project, output: &Output, secret: &str) {
    fn search(folder: &Path, secret: &[u8], files: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                search(&path, secret, files);
            } else if let Ok(bytes) = std::fs::read(&path) {
                *files += 1;
                assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
            }
        }
    }
    let mut files = 0;
    search(&project.path("."), secret.as_bytes(), &mut files);
    assert!(files > 5 && !output.out.contains(secret) && !output.err.contains(secret), "{output:?}");
}

fn recorded(project: &Project) -> usize {
    let files =
        std::fs::read_dir(project.path("cache/ledger")).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum()
}

#[test]
fn rows_are_answered_scored_and_paid_for_once() {
    let server = Server::start(Duration::ZERO);
    let project = project(&server);
    let plan = project.titer(&["plan", M]);
    assert!(plan.out.contains("asks `m-1` up to 100 times"), "{plan:?}");
    let output = titer(&project, &["run", M], SECRET);
    assert!(output.code == 0 && output.out.contains("2 ran"), "{output:?}");
    assert_eq!(server.count(), 100);
    let predictions = project.read("out/p/predict.a/predictions.jsonl");
    let expected = r#"{"instruction":"Say 7.","output":"7","prediction":"7","prompt_tokens":9,"new_tokens":3,"stop_reason":"eos"}"#;
    assert_eq!(predictions.lines().nth(7), Some(expected));
    let summary: Value = serde_json::from_str(&project.read("out/p/predict.a/summary.json")).unwrap();
    let counts = json!({
        "rows": 100, "prompt_tokens": 900, "new_tokens": 300, "eos": 100, "stop": 0, "length": 0, "other": 0, "uncounted": 0,
    });
    assert_eq!(summary, counts);
    is_nowhere(&project, &output, SECRET);

    // How it is asked is no part of the key, nor is the key of the API.
    project.edit(M, "model = \"m-1\",", "model = \"m-1\", concurrency = 2, price = { input = 1, output = 1 },");
    assert!(titer(&project, &["run", M], SECRET).out.contains("nothing to do"));
    // Another stage over other rows, a forced run and an audit: what was paid for is there.
    project.write("data/more.jsonl", &rows(90..110));
    let text = project.read(M);
    let (first, _) = text.split_once("[score.s]").unwrap();
    let (_, stage) = first.split_once("[predict.a]").unwrap();
    project.write(M, &format!("{text}[predict.b]{}", stage.replace("rows.jsonl", "more.jsonl")));
    let output = titer(&project, &["run", M], SECRET);
    assert!(output.code == 0 && server.count() == 110, "{output:?} {}", server.count());
    assert_eq!(titer(&project, &["run", M, "--force", "predict.a"], SECRET).code, 0);
    assert_eq!(titer(&project, &["audit", M], SECRET).code, 0);
    assert_eq!((server.count(), recorded(&project)), (110, 110));
    // Another parameter is another question.
    project.edit(M, "max_new_tokens = 10", "max_new_tokens = 11");
    assert_eq!(titer(&project, &["run", M, "-t", "predict.b"], SECRET).code, 0);
    assert_eq!(server.count(), 130);
}

#[test]
fn a_killed_run_goes_on_without_asking_again() {
    let server = Server::start(Duration::from_millis(20));
    let project = project(&server);
    let mut command = project.command(&["run", M]);
    let mut child = command.env("LAB_KEY", SECRET).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while recorded(&project) < 20 {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The worker dies with it; what it was asking may be on its way still.
    std::thread::sleep(Duration::from_millis(200));
    let (kept, before) = (recorded(&project), server.count());
    assert!((20..100).contains(&kept), "{kept}");
    let output = titer(&project, &["run", M], SECRET);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!((server.count() - before, recorded(&project)), (100 - kept, 100));
    assert_eq!(project.read("out/p/predict.a/predictions.jsonl").lines().count(), 100);
}

#[test]
fn a_wrong_key_is_said_at_once_and_stands_nowhere() {
    let server = Server::start(Duration::ZERO);
    let project = project(&server);
    let wrong = "sk-wr0ng\\\"k/y";
    let output = titer(&project, &["run", M], wrong);
    assert_eq!(output.code, 1, "{output:?}");
    let said = output.out.clone() + &output.err;
    assert!(said.contains("answers 401 Unauthorized") && said.contains("environment variable `LAB_KEY`"), "{said}");
    assert!(server.count() <= 8 && recorded(&project) == 0, "{}", server.count());
    is_nowhere(&project, &output, wrong);
    is_nowhere(&project, &output, "sk-wr0ng");
    // Without a key nothing is asked.
    let before = server.count();
    project.refuses(
        &["run", M],
        2,
        &["pipelines/p.toml:3:10", "needs the environment variable `LAB_KEY`, which is not set"],
    );
    assert_eq!(server.count(), before);
    assert_eq!(titer(&project, &["run", M], SECRET).code, 0);
}

#[test]
fn the_cap_stops_a_run_and_a_higher_one_goes_on() {
    let server = Server::start(Duration::ZERO);
    let project = project(&server);
    // An answer costs 3, and 10 before it is known.
    project.edit(M, "model = \"m-1\",", "model = \"m-1\", price = { input = 0, output = 1_000_000 }, max_cost = 100,");
    let output = titer(&project, &["run", M], SECRET);
    assert!(output.code == 1 && output.out.contains("`max_cost` is 100"), "{output:?}");
    assert!(output.out.contains(&format!("{} of 100 answers are in the ledger", recorded(&project))), "{output:?}");
    let paid = server.count();
    assert!((20..=33).contains(&paid) && paid == recorded(&project), "{paid}");
    project.edit(M, "max_cost = 100", "max_cost = 310");
    assert_eq!(titer(&project, &["run", M], SECRET).code, 0);
    assert_eq!((server.count(), recorded(&project)), (100, 100));
}

#[test]
fn the_ledger_goes_only_if_it_is_named() {
    let server = Server::start(Duration::ZERO);
    let project = project(&server);
    assert_eq!(titer(&project, &["run", M], SECRET).code, 0);
    let gc = |more: &[&str]| {
        let all = ["gc", "--keep-runs", "0", "--older-than", "0s", "--grace", "0s", "--wait", "0s", "--yes"];
        let output = project.titer(&[&all[..], more].concat());
        assert_eq!(output.code, 0, "{output:?}");
    };
    gc(&["--fetched", "--history", "--quarantine"]);
    assert_eq!(titer(&project, &["run", M], SECRET).code, 0);
    assert_eq!((server.count(), recorded(&project)), (100, 100), "made again of what was paid for");
    gc(&["--ledger"]);
    assert_eq!(recorded(&project), 0);
}

#[test]
fn a_row_that_asks_nothing_is_found_before_anything_is_paid() {
    let server = Server::start(Duration::ZERO);
    let project = project(&server);
    project.write("data/rows.jsonl", &(rows(0..5) + "{\"text\":\"a\"}\n"));
    project.refuses(&["plan", M], 2, &["data/rows.jsonl:6", "neither `messages` nor an `instruction`"]);
    project.edit(M, "max_new_tokens = 10", "max_new_tokens = 10\nbeams = 4");
    project.refuses(&["check", M], 2, &["pipelines/p.toml:6:1", "`beams` is for models that titer runs itself"]);
}

/// Five answers that exist, judged.
fn judged(server: &Server, settings: &str) -> Project {
    let project = Project::empty();
    let row = |n: usize| {
        format!(
            "{{\"id\":{n},\"instruction\":\"Say {n}.\",\"output\":\"right\",\"prediction\":\"p{n}\",\"task\":\"t{}\"}}\n",
            n % 2
        )
    };
    project.write("data/answers.jsonl", &(0..5).map(row).collect::<String>());
    project.write(
        M,
        &format!(
            "titer = 1\nname = \"p\"\n[score.s]\npredictions = \"data/answers.jsonl\"\n[score.s.scorers]\n\
             gpt = {{ kind = \"judge\", model = {{ api = \"{}\", model = \"m-1\", key = \"{{env:LAB_KEY}}\" }}, {settings} }}\n",
            server.url
        ),
    );
    project
}

fn scores(project: &Project) -> Vec<Value> {
    let text = project.read("out/p/score.s/scorer=gpt/scores.jsonl");
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["scores"].clone()).collect()
}

#[test]
fn a_judge_is_paid_for_once_however_its_replies_are_read() {
    let server = Server::start(Duration::ZERO);
    // The server says what it is asked to: the last line of the prompt.
    let prompt = "prompt = \"{% if id == 3 %}none{% else %}{{ 10 - id }},{{ id + 1 }}{% endif %}\"";
    let project = judged(&server, &format!("{prompt}, first = 2, first_per = \"task\""));
    let plan = project.titer(&["plan", M]);
    assert!(plan.out.contains("asks `m-1` up to 4 times"), "{plan:?}");
    let output = titer(&project, &["run", M], SECRET);
    assert_eq!((output.code, server.count()), (0, 4), "{output:?}");
    assert!(output.out.contains("1 of 4 replies of the judge cannot be read"), "{output:?}");
    let found = scores(&project);
    assert_eq!(
        (&found[0]["score"], &found[0]["other_score"], &found[0]["win"]),
        (&json!(10.0), &json!(1.0), &json!(1.0))
    );
    assert_eq!((&found[3]["score"], &found[3]["unreadable"]), (&Value::Null, &json!(1.0)));
    assert_eq!((&found[4]["score"], &found[4]["unreadable"]), (&Value::Null, &Value::Null), "not asked about");
    let summary: Value = serde_json::from_str(&project.read("out/p/score.s/scorer=gpt/summary.json")).unwrap();
    assert_eq!(summary["details"]["unreadable_replies"], json!([{ "id": "3", "reply": " none\n" }]));
    assert_eq!((&summary["scored"], &summary["metrics"]["score"]["count"]), (&json!(4), &json!(3)));
    is_nowhere(&project, &output, SECRET);
    // Another way to read, and more rows: only those are asked about.
    project.edit(M, ", first = 2, first_per = \"task\"", ", most = 9.0");
    let output = titer(&project, &["run", M], SECRET);
    assert_eq!((output.code, server.count()), (0, 5), "{output:?}");
    assert_eq!(scores(&project)[0]["score"], Value::Null, "10 is off the scale");
}

#[test]
fn a_judge_s_mistakes_are_found_before_anything_is_paid() {
    let server = Server::start(Duration::ZERO);
    let refused = |settings: &str, expected: &str| {
        let project = judged(&server, settings);
        let output = titer(&project, &["run", M], SECRET);
        assert!(output.code == 2 && output.err.contains(expected), "{output:?}");
    };
    refused("prompt = \"{{ question }}\"", "`prompt` names `question`, which the row has not");
    refused("against = \"baseline\"", "no `baseline`, which `against` names");
    refused("form = \"rating\", order = \"both\"", "a `rating` shows one response");
    refused("samples = 3", "the likeliest answer is always the same");
    refused("prompt = \"{{ a \"", "the template cannot be read");
    refused("ordr = \"both\"", "did you mean `order`?");
    assert_eq!(server.count(), 0);
}
