//! Asking a server on this machine that does what servers do on bad days.

use super::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tempfile::TempDir;

/// What a server does with a request.
enum Act {
    /// Answers: status, headers, body.
    Say(u16, &'static str, String),
    /// Breaks the connection in the middle of an answer.
    Cut,
    /// Says nothing for a while, then breaks the connection.
    Silence(Duration),
}

#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    question: String,
    authorization: Option<String>,
}

struct Server {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// How often each question was answered.
    paid: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Server {
    /// `act` is told the question, and how often it was asked before.
    fn start(act: impl Fn(&str, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = Self { url, heard: Arc::default(), paid: Arc::default() };
        let (heard, paid, act) = (Arc::clone(&server.heard), Arc::clone(&server.paid), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heard, paid, act) = (Arc::clone(&heard), Arc::clone(&paid), Arc::clone(&act));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let (mut length, mut authorization, mut line) = (0, None, String::new());
                    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                        let (name, value) = line.split_once(": ").unwrap_or_default();
                        match name.to_lowercase().as_str() {
                            "content-length" => length = value.trim().parse().unwrap(),
                            "authorization" => authorization = Some(value.trim().to_string()),
                            _ => {}
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    // One that wants TLS sends no HTTP.
                    if reader.read_exact(&mut body).is_err() || body.is_empty() {
                        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                        return;
                    }
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    let question = body["messages"][0]["content"].as_str().unwrap().to_string();
                    let before = {
                        let mut heard = heard.lock().unwrap();
                        let before = heard.iter().filter(|heard| heard.question == question).count();
                        heard.push(Heard { at: Instant::now(), question: question.clone(), authorization });
                        before
                    };
                    let (status, headers, body, cut) = match act(&question, before) {
                        Act::Say(status, headers, body) => (status, headers, body, None),
                        Act::Cut => (200, "", answer(&question), Some(20)),
                        Act::Silence(time) => return std::thread::sleep(time),
                    };
                    if status == 200 && cut.is_none() && body.contains("choices") {
                        *paid.lock().unwrap().entry(question).or_default() += 1;
                    }
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
                    );
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&body.as_bytes()[..cut.unwrap_or(length)]);
                });
            }
        });
        server
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn paid(&self) -> BTreeMap<String, usize> {
        self.paid.lock().unwrap().clone()
    }
}

fn answer(question: &str) -> String {
    json!({
        "id": "x", "choices": [{ "message": { "content": format!("{question}!") }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 2 },
    })
    .to_string()
}

fn ok(question: &str) -> Act {
    Act::Say(200, "", answer(question))
}

fn settings(server: &Server) -> Settings {
    Settings {
        endpoint: server.url.clone(),
        model: "m".to_string(),
        key: Key([("LAB_KEY".to_string(), "sk-very-secret".to_string())].into()),
        concurrency: 16,
        requests_per_second: None,
        requests_per_minute: None,
        tokens_per_minute: None,
        timeout: Duration::from_secs(20),
        price: None,
        max_cost: None,
        till: None,
        pause: Duration::from_millis(1),
    }
}

fn call(question: &str) -> Call {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": question }] }).to_string();
    Call { body, sample: 0, most: Tokens { input: 5, output: 5 } }
}

fn calls(number: usize) -> Vec<Call> {
    (0..number).map(|number| call(&format!("q{number}"))).collect()
}

struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ask(&self, settings: Settings, calls: &[Call]) -> Result<Vec<Reply>, Failure> {
        let client = Client::new(settings, Ledger::open(self.path()).unwrap()).unwrap();
        client.ask(calls, &mut |_| {})
    }

    fn count(&self) -> usize {
        Ledger::open(self.path()).unwrap().count()
    }

    /// Why a call to a server that always does this fails.
    fn failure(&self, act: impl Fn() -> Act + Send + Sync + 'static) -> String {
        let server = Server::start(move |_, _| act());
        let failure = self.ask(settings(&server), &calls(1)).unwrap_err().to_string();
        assert!(!failure.contains("very-secret"), "{failure}");
        assert_eq!(self.count(), 0, "failures are not kept");
        failure
    }
}

#[test]
fn on_bad_days_all_calls_get_their_replies_and_none_is_paid_for_twice() {
    let server = Server::start(|question, before| {
        let number: usize = question[1..].parse().unwrap();
        match (number % 9, before) {
            (1, 0) => Act::Say(500, "", "oh".into()),
            (2, 0 | 1) => Act::Say(429, "Retry-After: 0\r\n", r#"{"error": {"message": "slower"}}"#.into()),
            (3, 0) => Act::Cut,
            (4, 0) => Act::Say(200, "", "<html>Bad gateway".into()),
            (5, 0) => Act::Say(503, "Retry-After: Tue, 24 Nov 2020 12:00:00 GMT\r\n", String::new()),
            (6, 0) => Act::Silence(Duration::from_millis(5)),
            (7, _) => {
                std::thread::sleep(Duration::from_millis(5));
                ok(question)
            }
            _ => ok(question),
        }
    });
    let desk = Desk::new();
    let replies = desk.ask(settings(&server), &calls(1000)).unwrap();
    for (number, reply) in replies.iter().enumerate() {
        assert_eq!((reply.text.as_str(), reply.finish.as_str()), (format!("q{number}!").as_str(), "stop"));
        assert_eq!(reply.tokens, Some(Tokens { input: 5, output: 2 }));
    }
    let paid = server.paid();
    assert!(paid.len() == 1000 && paid.values().all(|times| *times == 1), "{paid:?}");
    assert!(server.heard().iter().all(|heard| heard.authorization.as_deref() == Some("Bearer sk-very-secret")));
    // All is in the ledger, and there alone.
    let before = server.heard().len();
    assert_eq!(desk.ask(settings(&server), &calls(1000)).unwrap(), replies);
    assert_eq!((server.heard().len(), desk.count()), (before, 1000));
}

#[test]
fn equal_calls_are_made_once_also_at_the_same_time() {
    let server = Server::start(|question, _| {
        std::thread::sleep(Duration::from_millis(10));
        ok(question)
    });
    let desk = Desk::new();
    let twice = [calls(20), calls(20)].concat();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let replies = desk.ask(settings(&server), &twice).unwrap();
                assert!(replies[..20] == replies[20..] && replies[7].text == "q7!");
            });
        }
    });
    assert_eq!(server.heard().len(), 20);
    // Another sample, other parameters, another endpoint are other questions.
    let other = Call { sample: 1, ..call("q1") };
    desk.ask(settings(&server), &[other, Call { body: call("q1").body.replace("\"m\"", "\"n\""), ..call("q1") }])
        .unwrap();
    assert_eq!(server.heard().len(), 22);
    assert_ne!(call("q1").key("https://a"), call("q1").key("https://b"));
}

#[test]
fn the_rates_are_kept() {
    let server = Server::start(|question, _| ok(question));
    let fastest = |settings: Settings, number| {
        Desk::new().ask(settings, &calls(number)).unwrap();
        let times: Vec<Instant> = server.heard().iter().rev().take(number).map(|heard| heard.at).collect();
        times[0] - times[number - 1]
    };
    let by_requests = fastest(Settings { requests_per_second: Some(50.0), ..settings(&server) }, 16);
    assert!(by_requests >= Duration::from_millis(15 * 20 - 20), "{by_requests:?}");
    // Of 7 tokens each: 100 a second.
    let by_tokens = fastest(Settings { tokens_per_minute: Some(6000.0), ..settings(&server) }, 6);
    assert!(by_tokens >= Duration::from_millis(5 * 60 - 60), "{by_tokens:?}");
}

#[test]
fn the_rates_of_an_endpoint_hold_over_all_who_ask_it() {
    let server = Server::start(|question, _| ok(question));
    let desk = Desk::new();
    let all = calls(16);
    std::thread::scope(|scope| {
        for part in all.chunks(8) {
            // 50 a second.
            let settings = Settings { requests_per_minute: Some(3000.0), ..settings(&server) };
            scope.spawn(|| desk.ask(settings, part).unwrap());
        }
    });
    let mut times: Vec<Instant> = server.heard().iter().map(|heard| heard.at).collect();
    times.sort();
    assert_eq!(times.len(), 16);
    let all = times[15] - times[0];
    assert!(all >= Duration::from_millis(15 * 20 - 20), "{all:?}");
}

#[test]
fn a_run_spends_no_more_than_it_may_however_many_ask() {
    let server = Server::start(|question, _| ok(question));
    let desk = Desk::new();
    let folder = tempfile::tempdir().unwrap();
    // A token costs 1: a call 7, and 10 at most.
    let settings = || Settings {
        price: Some(Price { input: 1e6, output: 1e6 }),
        till: Some(Till { file: folder.path().join("run"), most: 50.0 }),
        concurrency: 1,
        ..settings(&server)
    };
    let all = calls(10);
    desk.ask(settings(), &all[..3]).unwrap();
    let failure = desk.ask(settings(), &all).unwrap_err();
    assert!(failure.reason.contains("`max_cost` in `[limits]` is 50: 42.000000"), "{failure}");
    assert!(failure.reason.contains("the next call may cost 10"), "{failure}");
    assert_eq!(server.heard().len(), 6, "what is there already costs nothing more");
    assert_eq!(std::fs::read_to_string(folder.path().join("run")).unwrap(), "42000000000000");
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it_from_all_calls() {
    let server = Server::start(|question, before| match (question, before) {
        ("q0", 0) => Act::Say(429, "Retry-After: 1\r\n", String::new()),
        _ => ok(question),
    });
    Desk::new().ask(Settings { concurrency: 1, ..settings(&server) }, &calls(2)).unwrap();
    let heard = server.heard();
    assert!(heard.len() == 3 && heard[1].at - heard[0].at >= Duration::from_secs(1), "{heard:?}");
}

#[test]
fn a_silent_server_is_asked_again() {
    let server = Server::start(|question, before| match before {
        0 => Act::Silence(Duration::from_secs(5)),
        _ => ok(question),
    });
    let hasty = Settings { timeout: Duration::from_millis(300), ..settings(&server) };
    assert_eq!(Desk::new().ask(hasty, &calls(3)).unwrap()[2].text, "q2!");
}

#[test]
fn no_more_is_spent_than_max_cost_and_what_was_paid_is_kept() {
    let server = Server::start(|question, before| match (question, before) {
        // It may have been charged.
        ("q3", 0) => Act::Cut,
        _ => ok(question),
    });
    // A token costs 1: a call 7, and 10 at most.
    let price = Some(Price { input: 1e6, output: 1e6 });
    let capped = |max_cost| Settings { price, max_cost: Some(max_cost), ..settings(&server) };
    let desk = Desk::new();
    let failure = desk.ask(capped(50.0), &calls(10)).unwrap_err();
    assert!(
        failure.reason.contains("`max_cost` is 50") && failure.reason.contains("the next call may cost 10"),
        "{failure}"
    );
    let kept = desk.count();
    assert!(failure.told.cost <= 50.0 && kept == failure.told.answered, "{failure:?}");
    assert!((4..=6).contains(&kept), "{kept} answers at 7, and one for nothing");
    // What was spent before counts, and is not spent again.
    let failure = desk.ask(capped(50.0), &calls(10)).unwrap_err();
    assert!(failure.told.cost <= 50.0 && failure.told.answered == desk.count(), "{failure:?}");
    desk.ask(capped(80.0), &calls(10)).unwrap();
    assert!(server.paid().len() == 10 && server.paid().values().all(|times| *times == 1));
    let before = server.heard().len();
    desk.ask(capped(0.0), &calls(10)).unwrap();
    assert_eq!(server.heard().len(), before, "what is there costs nothing more");
}

#[test]
fn a_key_that_is_refused_ends_all_at_once_and_is_not_said() {
    let server =
        Server::start(|_, _| Act::Say(401, "", r#"{"error": {"message": "Incorrect key: sk-very-secret"}}"#.into()));
    let desk = Desk::new();
    let failure = desk.ask(settings(&server), &calls(1000)).unwrap_err();
    assert!(server.heard().len() <= 16, "{}", server.heard().len());
    let expected = "answers 401 Unauthorized: Incorrect key: <LAB_KEY>; it does not take the key in the environment variable `LAB_KEY`";
    assert!(failure.reason.contains(expected), "{failure}");
    assert_eq!(desk.count(), 0);
    let shown = format!("{:?}", Client::new(settings(&server), Ledger::open(desk.path()).unwrap()).unwrap());
    assert!(!shown.contains("very-secret"), "{shown}");
    for bad in ["", "two\nlines"] {
        let key = Key([("LAB_KEY".to_string(), bad.to_string())].into());
        let client = Client::new(Settings { key, ..settings(&server) }, Ledger::open(desk.path()).unwrap());
        assert!(client.unwrap_err().to_string().contains("`LAB_KEY` is no key"));
    }
}

#[test]
fn what_is_no_answer_is_refused_with_words() {
    let desk = Desk::new();
    for (body, expected) in [
        ("data: {\"choices\": []}\n\ndata: [DONE]\n", "streams its answers"),
        ("<html>hello", "no chat completion (it is no JSON): `<html>hello`"),
        ("{\"choices\": []}", "(it has no `choices`)"),
        ("{\"object\": \"error\", \"message\": \"no such model\"}", "`no such model`"),
        (
            "{\"choices\": [{\"message\": {\"content\": \"sk-very-secret\"}}]}",
            "holds the secret `LAB_KEY`: it is not kept",
        ),
    ] {
        let failure = desk.failure(move || Act::Say(200, "", body.to_string()));
        assert!(failure.contains(expected), "{failure}");
    }
    let streamed = desk.failure(|| Act::Say(200, "Content-Type: text/event-stream\r\n", "{}".into()));
    assert!(streamed.contains("streams"), "{streamed}");
    let failure = desk.failure(|| Act::Say(302, "Location: http://elsewhere/\r\n", String::new()));
    assert!(failure.contains("write that as `api`"), "a key goes to no other server: {failure}");
    let failure = desk.failure(|| Act::Say(500, "", "down".into()));
    assert!(failure.contains("500 Internal Server Error: down (tries: 10)"), "{failure}");
    let bad = Server::start(|_, _| Act::Say(400, "", r#"{"error": {"message": "too long"}}"#.into()));
    assert_eq!(desk.ask(settings(&bad), &calls(1)).unwrap_err().call, Some(0));
}

#[test]
fn a_server_that_is_not_there_or_not_safe_is_told_apart() {
    let desk = Desk::new();
    let server = Server::start(|question, _| ok(question));
    let safe = Settings { endpoint: server.url.replace("http", "https"), ..settings(&server) };
    let failure = desk.ask(safe, &calls(1)).unwrap_err().to_string();
    assert!(failure.contains("(TLS)") && !failure.contains("tries"), "{failure}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Settings { endpoint: format!("http://127.0.0.1:{port}"), ..settings(&server) };
    let failure = desk.ask(nobody, &calls(1)).unwrap_err().to_string();
    assert!(failure.contains("cannot be reached") && failure.contains("(tries: 5)"), "{failure}");
}
