//! Shared caches in S3: against a small server that lies when it is told to, and against a real one (moto).

use crate::project::{Output, Project, ran, results, tree};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NOTHING: [&str; 0] = [];
const KEY: &str = "AKIATITERTEST";
const SECRET: &str = "secret/of+the/test";

/// How a server answers what is asked of it under certain names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// One byte of a body is another.
    Wrong,
    /// Half of a body, and says so.
    Half,
    /// More than there is, and says so.
    Long,
    /// Says a length and hangs up before it.
    Short,
    /// 500, always.
    Broken,
    /// 403, with the caller's keys in the answer.
    Closed,
    /// Knows no conditions: 501.
    Simple,
    /// A piece now and then.
    Slow,
}

#[derive(Default)]
struct Inside {
    files: BTreeMap<String, Vec<u8>>,
    /// For names that contain the text.
    mood: Option<(&'static str, Mood)>,
    requests: Vec<String>,
}

/// As much of S3 as a cache needs.
struct Server {
    address: String,
    inside: Arc<Mutex<Inside>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let inside = Arc::new(Mutex::new(Inside::default()));
        let shared = Arc::clone(&inside);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inside = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &inside));
            }
        });
        Self { address, inside }
    }

    fn mood(&self, names: &'static str, mood: Mood) {
        let mut inside = self.inside.lock().unwrap();
        inside.mood = Some((names, mood));
        inside.requests.clear();
    }

    fn requests(&self) -> usize {
        self.inside.lock().unwrap().requests.len()
    }

    fn names(&self) -> Vec<String> {
        self.inside.lock().unwrap().files.keys().cloned().collect()
    }
}

/// One request, one connection. A client that has gone away is no error.
fn answer(mut stream: TcpStream, inside: &Mutex<Inside>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let (line, headers) = head.split_once("\r\n")?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let header = |name: &str| {
        let lines = headers.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_string()).next()
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let signed = header("authorization").is_some_and(|text| text.contains(KEY));

    let mut inside = inside.lock().unwrap();
    inside.requests.push(format!("{method} {path}"));
    let mood = inside.mood.filter(|(names, _)| path.contains(names)).map(|(_, mood)| mood);
    let is_conditional = header("if-none-match").is_some();
    let (status, mut content) = match (method.as_str(), mood) {
        _ if !signed => ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>".to_vec()),
        (_, Some(Mood::Broken)) => ("500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>".to_vec()),
        (_, Some(Mood::Closed)) => (
            "403 Forbidden",
            format!("<Error><Code>SignatureDoesNotMatch</Code><Id>{KEY}</Id><Hint>{SECRET}</Hint></Error>")
                .into_bytes(),
        ),
        ("PUT", Some(Mood::Simple)) if is_conditional => {
            ("501 Not Implemented", b"<Error><Code>NotImplemented</Code></Error>".to_vec())
        }
        ("PUT", _) if is_conditional && inside.files.contains_key(&path) => ("412 Precondition Failed", Vec::new()),
        ("PUT", _) => {
            inside.files.insert(path.clone(), body);
            ("200 OK", Vec::new())
        }
        _ => match inside.files.get(&path) {
            Some(content) => ("200 OK", content.clone()),
            None => ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
        },
    };
    drop(inside);
    let is_hit = status.starts_with("200") && method == "GET";
    match mood {
        Some(Mood::Wrong) if is_hit => content[0] ^= 1,
        Some(Mood::Half) if is_hit => content.truncate(content.len() / 2),
        Some(Mood::Long) if is_hit => content.extend_from_slice(&[0; 1 << 20]),
        _ => {}
    }
    let length = content.len();
    if method == "HEAD" {
        content.clear();
    }
    if mood == Some(Mood::Short) && is_hit {
        content.truncate(length / 2);
    }
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"x\"\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    if mood == Some(Mood::Slow) {
        for piece in content.chunks(content.len().div_ceil(4).max(1)) {
            std::thread::sleep(Duration::from_millis(60));
            stream.write_all(piece).ok()?;
        }
        return Some(());
    }
    stream.write_all(&content).ok()
}

fn call(project: &Project, server: &str, args: &[&str]) -> Output {
    let mut command = project.command(&[args, &["--shared", "s3://lab/some/titer"]].concat());
    command.env("AWS_ENDPOINT_URL", server).env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.env("NO_PROXY", "127.0.0.1").output().unwrap().into()
}

/// Runs what must succeed; returns the instances that ran, and all that was said.
fn run(project: &Project, server: &str, more: &[&str]) -> (Vec<String>, Output) {
    let output = call(project, server, &[&["run", "pipelines/p.toml", "--json"], more].concat());
    assert_eq!(output.code, 0, "{output:?}");
    (ran(&output.out), output)
}

#[test]
fn a_bucket_is_a_shared_cache() {
    let server = Server::start();
    let here = Project::answers();
    assert_eq!(run(&here, &server.address, &["--push"]).0.len(), 10);
    let names = server.names();
    assert!(names.contains(&"/lab/some/titer/VERSION".to_string()), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with("/record.json")).count(), 10);
    server.mood("objects/", Mood::Slow);
    let (made, output) = run(&Project::answers(), &server.address, &[]);
    assert_eq!(made, NOTHING, "{output:?}");
    let again = call(&here, &server.address, &["push", "pipelines/p.toml"]);
    assert!(again.out.contains("0 sent (0 bytes), 10 there already"), "{again:?}");
    assert_eq!(server.names(), names);
    for (name, bytes) in tree(&here.path("cache")) {
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{name}");
    }
}

#[test]
fn a_server_that_lies_is_not_believed() {
    let server = Server::start();
    let here = Project::answers();
    run(&here, &server.address, &["--push"]);
    for (mood, expected) in
        [(Mood::Wrong, "has not the bytes"), (Mood::Half, "is cut off"), (Mood::Long, "is longer"), (Mood::Short, "")]
    {
        server.mood("objects/", mood);
        let there = Project::answers();
        let (made, output) = run(&there, &server.address, &[]);
        assert_eq!(made.len(), 10, "{mood:?} {output:?}");
        assert!(output.out.contains(expected), "{mood:?} {output:?}");
        assert_eq!(results(&there), results(&here));
        assert_eq!(there.run(), NOTHING);
    }
    for mood in [Mood::Wrong, Mood::Half, Mood::Long] {
        server.mood("record.json", mood);
        let (made, output) = run(&Project::answers(), &server.address, &[]);
        assert_eq!(made.len(), 10, "{mood:?} {output:?}");
        assert!(output.err.contains("is not used"), "{mood:?} {output:?}");
    }
}

#[test]
fn a_server_that_fails_costs_a_few_requests_and_one_line() {
    let server = Server::start();
    server.mood("", Mood::Broken);
    let project = Project::answers();
    let (made, output) = run(&project, &server.address, &["--push"]);
    assert_eq!(made.len(), 10);
    assert_eq!(
        output.err.matches("warning: the shared cache `s3://lab/some/titer` is not used").count(),
        1,
        "{output:?}"
    );
    assert!(server.requests() <= 4, "{}", server.requests());
    // It gets well and falls ill again, in the middle.
    server.mood("", Mood::Slow);
    assert_eq!(call(&project, &server.address, &["push", "pipelines/p.toml"]).code, 0);
    server.mood("objects/", Mood::Broken);
    let (made, output) = run(&Project::answers(), &server.address, &[]);
    assert!(!made.is_empty() && output.err.matches("is not asked any more").count() == 1, "{output:?}");
    let pull = call(&Project::answers(), &server.address, &["pull", "pipelines/p.toml"]);
    assert_eq!(pull.code, 1, "{pull:?}");
    let pushed = call(&project, "nonsense", &["push", "pipelines/p.toml"]);
    assert!(pushed.code == 1 && pushed.err.contains("AWS_ENDPOINT_URL is no address"), "{pushed:?}");
    // Nobody is there at all.
    let (made, output) = run(&Project::answers(), "http://127.0.0.1:9", &[]);
    assert!(made.len() == 10 && output.err.contains("is not used: "), "{output:?}");
}

#[test]
fn keys_are_not_repeated() {
    let server = Server::start();
    server.mood("", Mood::Closed);
    let project = Project::answers();
    let (_, output) = run(&project, &server.address, &["--push"]);
    assert!(output.err.contains("access denied; check AWS_ACCESS_KEY_ID"), "{output:?}");
    server.mood("record.json", Mood::Closed);
    let push = call(&project, &server.address, &["push", "pipelines/p.toml"]);
    assert_eq!(push.code, 1, "{push:?}");
    let all = format!("{}{}{}{}", output.out, output.err, push.out, push.err);
    assert!(!all.contains(SECRET) && !all.contains(KEY), "{all}");
    let mut command = project.command(&["push", "pipelines/p.toml", "--shared", "s3://lab"]);
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_"));
    variables.for_each(|(name, _)| _ = command.env_remove(name));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there are no keys for it"), "{output:?}");
}

#[test]
fn a_server_that_knows_no_conditions_will_do() {
    let server = Server::start();
    server.mood("", Mood::Simple);
    assert_eq!(run(&Project::answers(), &server.address, &["--push"]).0.len(), 10);
    assert_eq!(run(&Project::answers(), &server.address, &[]).0, NOTHING);
}

/// A real S3 server, of the program that the variable TITER_TEST_MOTO names.
struct Moto(Child, String);

impl Moto {
    #[expect(clippy::print_stderr, clippy::disallowed_methods, reason = "a test that is left out says so")]
    fn start() -> Option<Self> {
        let Ok(program) = std::env::var("TITER_TEST_MOTO") else {
            eprintln!("skipped: TITER_TEST_MOTO names no moto_server");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let moto = Self(command.spawn().expect("TITER_TEST_MOTO is a program"), format!("127.0.0.1:{port}"));
        for _ in 0..600 {
            if TcpStream::connect(&moto.1).is_ok() {
                moto.ask("PUT /lab HTTP/1.1");
                return Some(moto);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("moto_server does not listen");
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        let request = format!("{request}\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", self.1);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_server_takes_and_gives_what_was_made() {
    let Some(moto) = Moto::start() else { return };
    let server = format!("http://{}", moto.1);
    // Long enough to go in parts.
    let row =
        |i: usize| format!("{{\"instruction\":\"{i}\",\"output\":\"{}\",\"prediction\":\"x\"}}\n", "y".repeat(9_999));
    let project = || {
        let project = Project::answers();
        project.write("data/more.jsonl", &(0..2_000).map(row).collect::<String>());
        project
    };
    let (here, there) = (project(), project());
    assert_eq!(run(&here, &server, &["--push"]).0.len(), 10);
    assert!(moto.ask("GET /lab?uploads HTTP/1.1").matches("<UploadId>").count() == 0, "no parts are left");
    assert_eq!(run(&there, &server, &[]).0, NOTHING);
    let again = call(&here, &server, &["push", "pipelines/p.toml"]);
    assert!(again.code == 0 && again.out.contains("10 there already"), "{again:?}");
    // The first record stays: the condition holds there too.
    let other = project();
    assert_eq!(other.run().len(), 10);
    let pushed = call(&other, &server, &["push", "pipelines/p.toml", "--json"]);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let listing = moto.ask("GET /lab?list-type=2&max-keys=1000 HTTP/1.1");
    assert_eq!((listing.matches("/record.json<").count(), listing.matches("/observations/").count()), (10, 10));
    assert_eq!(run(&project(), &server, &[]).0, NOTHING);
    let mut missing = other.command(&["push", "pipelines/p.toml", "--shared", "s3://elsewhere"]);
    missing.env("AWS_ENDPOINT_URL", &server).env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
    let output = missing.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no such bucket"), "{output:?}");
}
