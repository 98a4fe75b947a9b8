//! Fetching from a server on this machine that does what servers do on bad days.

use super::*;
use crate::key::Digest;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server is asked.
#[derive(Clone, Debug, Default, PartialEq)]
struct Request {
    path: String,
    /// The byte from which on it is wanted.
    from: Option<usize>,
    token: Option<String>,
}

/// What it answers.
#[derive(Clone, Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    cut: Option<usize>,
    /// Before the body.
    pause: Duration,
}

fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply { status: 200, body: body.into(), ..Reply::default() }
}

fn status(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

fn sent_on(to: &str) -> Reply {
    Reply { status: 302, headers: vec![format!("Location: {to}")], ..Reply::default() }
}

/// The rest of a body, as asked for.
fn part(request: &Request, body: &[u8]) -> Reply {
    match request.from {
        Some(from) if from >= body.len() => status(416),
        Some(from) => Reply {
            status: 206,
            headers: vec![format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len())],
            body: body[from..].to_vec(),
            ..Reply::default()
        },
        None => ok(body),
    }
}

struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers with `reply`, which also hears how many requests there were before.
    fn start(reply: impl Fn(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Request::default();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                request.path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
                for line in lines.take_while(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(": ").unwrap();
                    match name.to_lowercase().as_str() {
                        "range" => {
                            request.from =
                                value.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().ok();
                        }
                        "authorization" => request.token = Some(value.to_string()),
                        _ => {}
                    }
                }
                let number = heard.lock().unwrap().len();
                heard.lock().unwrap().push(request.clone());
                let Reply { status, headers, body, cut, pause } = reply(&request, number);
                let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
                // Whoever has gone away does not listen.
                let _ = stream.write_all(head.as_bytes());
                std::thread::sleep(pause);
                let _ = stream.write_all(&body[..cut.unwrap_or(length)]);
            }
        });
        Self { url, requests }
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.path.clone()).collect()
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

struct Desk {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        Self { _folder: folder, store }
    }

    fn try_fetch(&self, endpoint: &str, address: &str, extent: Extent, token: Option<&str>) -> anyhow::Result<Fetched> {
        let token = token.map(|token| Token::new(token).unwrap());
        let mut settings = Settings::new(endpoint, token, "LAB_TOKEN").unwrap();
        settings.pause = Duration::from_millis(1);
        settings.silence = Duration::from_millis(400);
        let fetcher = Fetcher::new(&self.store, settings, Arc::default()).unwrap();
        fetcher.fetch(&Address::parse(address).unwrap(), extent, &mut |_| {})
    }

    fn file(&self, address: &str) -> anyhow::Result<Vec<u8>> {
        let fetched = self.try_fetch(ENDPOINT, address, Extent::File, None)?;
        Ok(std::fs::read(self.store.path(&fetched.files[0].digest)).unwrap())
    }

    fn error(&self, address: &str) -> String {
        format!("{:#}", self.file(address).unwrap_err())
    }
}

/// A repository with these files, as a hub lists it.
fn listing(files: &[(&str, &[u8])]) -> Vec<u8> {
    let hash = |algorithm, bytes: &[u8]| -> String {
        ring::digest::digest(algorithm, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let siblings: Vec<serde_json::Value> = files
        .iter()
        .map(|(name, bytes)| match name.ends_with(".safetensors") {
            true => serde_json::json!({ "rfilename": name, "lfs": {
                "sha256": hash(&ring::digest::SHA256, bytes), "size": bytes.len(),
            } }),
            false => {
                let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
                let hash = hash(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &blob);
                serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": hash })
            }
        })
        .collect();
    serde_json::to_vec(&serde_json::json!({ "sha": COMMIT, "siblings": siblings })).unwrap()
}

const MODEL: [(&str, &[u8]); 5] = [
    ("README.md", b"words"),
    ("config.json", b"{}"),
    ("model-00001-of-00002.safetensors", b"first"),
    ("model-00002-of-00002.safetensors", b"second"),
    (
        "model.safetensors.index.json",
        br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#,
    ),
];

/// A hub with one model.
fn hub(lab: &'static [(&'static str, &'static [u8])]) -> Server {
    Server::start(move |request, _| {
        if request.path == format!("/api/models/lab/tiny/revision/{COMMIT}?blobs=true")
            || request.path == "/api/models/lab/tiny/revision/main?blobs=true"
        {
            return ok(listing(lab));
        }
        let name = request.path.strip_prefix(&format!("/lab/tiny/resolve/{COMMIT}/"));
        match lab.iter().find(|(file, _)| Some(*file) == name) {
            Some((_, bytes)) => part(request, bytes),
            None => status(404),
        }
    })
}

#[test]
fn a_model_in_shards_comes_from_a_hub_once() {
    let (server, desk) = (hub(&MODEL), Desk::new());
    let address = format!("hf://lab/tiny@{COMMIT}");
    let fetched = desk.try_fetch(&server.url, &address, Extent::Model, None).unwrap();
    let names: Vec<&str> = fetched.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, MODEL[1..].iter().map(|(name, _)| *name).collect::<Vec<_>>());
    // The digest is that of a folder with these files.
    let folder = tempfile::tempdir().unwrap();
    MODEL[1..].iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
    assert_eq!(fetched.digest(), desk.store.digest_folder(folder.path()).unwrap().0);
    let before = server.count();
    assert_eq!(desk.try_fetch(&server.url, &address, Extent::Model, None).unwrap(), fetched);
    assert_eq!(server.count(), before, "what is here is not asked for");
    // Of what is gone only that comes again.
    std::fs::remove_file(desk.store.path(&Digest::of(b"second"))).unwrap();
    assert_eq!(desk.try_fetch(&server.url, &address, Extent::Model, None).unwrap(), fetched);
    let last = &server.paths()[before..];
    assert!(last.len() == 2 && last[1].ends_with("model-00002-of-00002.safetensors"), "{last:?}");
}

#[test]
fn a_branch_is_pinned_to_its_commit() {
    let (server, desk) = (hub(&MODEL), Desk::new());
    let fetcher = Fetcher::new(&desk.store, Settings::new(&server.url, None, "T").unwrap(), Arc::default()).unwrap();
    let pin = |text: &str| fetcher.pin(&Address::parse(text).unwrap()).unwrap().to_string();
    assert_eq!(pin("hf://lab/tiny"), format!("hf://lab/tiny@{COMMIT}"));
    assert_eq!(pin("hf://lab/tiny@main/config.json"), format!("hf://lab/tiny@{COMMIT}/config.json"));
}

#[test]
fn what_comes_is_held_against_what_the_hub_says() {
    let desk = Desk::new();
    for wrong in ["config.json", "model-00002-of-00002.safetensors"] {
        let server = Server::start(move |request, _| match request.path.rsplit('/').next().unwrap() {
            name if name == wrong => {
                let length = MODEL.iter().find(|(file, _)| *file == name).unwrap().1.len();
                ok(vec![b'?'; length])
            }
            name => MODEL.iter().find(|(file, _)| *file == name).map_or(ok(listing(&MODEL)), |(_, bytes)| ok(*bytes)),
        });
        let result = desk.try_fetch(&server.url, &format!("hf://lab/tiny@{COMMIT}"), Extent::Model, None);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(wrong) && error.contains("other bytes than the hub says"), "{error}");
        assert!(desk.store.all_fetched().unwrap().is_empty());
    }
    let server = Server::start(|_, _| ok(listing(&MODEL)));
    let other = format!("hf://lab/tiny@{}", "f".repeat(40));
    let error = desk.try_fetch(&server.url, &other, Extent::Model, None).unwrap_err().to_string();
    assert!(error.contains("answers with another commit"), "{error}");
}

#[test]
fn a_digest_that_is_written_is_held_to() {
    let (server, desk) = (Server::start(|_, _| ok("rows")), Desk::new());
    let address = |digest: Digest| format!("{}/a/rows.jsonl#{digest}", server.url);
    let error = desk.error(&address(Digest::of(b"other")));
    assert!(error.contains("other bytes than its digest says"), "{error}");
    assert!(desk.store.all_fetched().unwrap().is_empty());
    assert_eq!(desk.file(&address(Digest::of(b"rows"))).unwrap(), b"rows");
}

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let body: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let served = body.clone();
    let server = Server::start(move |request, _| Reply { cut: Some(3000), ..part(request, &served) }.bounded());
    assert_eq!(Desk::new().file(&format!("{}/x.bin", server.url)).unwrap(), body);
    let from: Vec<Option<usize>> = server.requests.lock().unwrap().iter().map(|request| request.from).collect();
    assert_eq!(from[0], None);
    assert!(from.len() >= 4 && from[1..].iter().all(Option::is_some), "{from:?}");
    assert!(from.is_sorted(), "{from:?}");
}

impl Reply {
    /// Cut only where there is so much.
    fn bounded(self) -> Self {
        Self { cut: self.cut.filter(|cut| *cut < self.body.len()), ..self }
    }
}

#[test]
fn a_server_that_knows_no_parts_sends_the_whole_again() {
    let server = Server::start(|_, number| Reply { cut: (number == 0).then_some(3), ..ok("whole file") });
    assert_eq!(Desk::new().file(&format!("{}/x", server.url)).unwrap(), b"whole file");
    assert_eq!(server.count(), 2);
}

#[test]
fn what_another_process_has_begun_is_gone_on_with_and_proven() {
    let (server, desk) = (hub(&MODEL), Desk::new());
    let address = format!("hf://lab/tiny@{COMMIT}");
    let begin = |name: &str, bytes: &str| {
        std::fs::write(desk.store.partial(&format!("{address} {name}")).unwrap(), bytes).unwrap();
    };
    begin("model-00001-of-00002.safetensors", "fir");
    // Another file's beginning, and too much of one.
    begin("model-00002-of-00002.safetensors", "SEC");
    begin("config.json", "{}{}{}");
    desk.try_fetch(&server.url, &address, Extent::Model, None).unwrap();
    let requests = server.requests.lock().unwrap();
    let of = |name: &str| -> Vec<Option<usize>> {
        requests.iter().filter(|request| request.path.ends_with(name)).map(|request| request.from).collect()
    };
    assert_eq!(of("00001-of-00002.safetensors"), [Some(3)]);
    assert_eq!(of("00002-of-00002.safetensors"), [Some(3), None]);
    assert_eq!(of("config.json"), [None]);
}

#[test]
fn a_server_in_trouble_is_asked_again_and_at_last_given_up() {
    let server = Server::start(|_, number| match number {
        0 => Reply { headers: vec!["Retry-After: 0".into()], ..status(429) },
        1 => status(503),
        _ => ok("rows"),
    });
    assert_eq!(Desk::new().file(&format!("{}/x", server.url)).unwrap(), b"rows");
    let server = Server::start(|_, _| status(500));
    let error = Desk::new().error(&format!("{}/x", server.url));
    assert!(error.contains("answers 500") && error.contains("try again"), "{error}");
    assert_eq!(server.count(), 5);
}

#[test]
fn a_silent_server_is_not_waited_for_without_end() {
    let server = Server::start(|_, _| Reply { pause: Duration::from_secs(2), ..ok("late") });
    let error = Desk::new().error(&format!("{}/x", server.url));
    assert!(error.contains("has been silent for 0.4 s"), "{error}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Desk::new().error(&format!("http://{nobody}/x"));
    assert!(error.contains("cannot be reached"), "{error}");
}

#[test]
fn what_is_not_there_or_not_for_everybody_is_said() {
    let desk = Desk::new();
    let server = Server::start(|_, _| status(404));
    let hub = |server: &Server, token| {
        let fetched = desk.try_fetch(&server.url, &format!("hf://lab/none@{COMMIT}"), Extent::Model, token);
        format!("{:#}", fetched.unwrap_err())
    };
    assert!(hub(&server, None).contains("knows no such repository or revision"), "{}", hub(&server, None));
    assert!(desk.error(&format!("{}/x.jsonl", server.url)).contains("is not there (404"));
    let server = Server::start(|_, _| status(401));
    let error = hub(&server, None);
    assert!(error.contains("401") && error.contains("LAB_TOKEN holds no token"), "{error}");
    let error = hub(&server, Some("secret"));
    assert!(error.contains("the token in LAB_TOKEN does not open it") && !error.contains("secret"), "{error}");
    assert_eq!(server.count(), 2, "a refusal is not tried again");
}

#[test]
fn a_token_goes_to_the_hub_alone() {
    let elsewhere = Server::start(|request, _| {
        MODEL.iter().find(|(name, _)| request.path.ends_with(name)).map_or(status(404), |(_, bytes)| ok(*bytes))
    });
    let files = elsewhere.url.clone();
    let hub = Server::start(move |request, _| match request.token.as_deref() {
        Some("Bearer secret") if request.path.starts_with("/api/") => ok(listing(&MODEL)),
        Some("Bearer secret") => sent_on(&format!("{files}{}", request.path)),
        _ => status(401),
    });
    let desk = Desk::new();
    desk.try_fetch(&hub.url, &format!("hf://lab/tiny@{COMMIT}"), Extent::Model, Some("secret")).unwrap();
    assert_eq!(elsewhere.count(), 4);
    assert!(elsewhere.requests.lock().unwrap().iter().all(|request| request.token.is_none()));
    let kept = std::process::Command::new("grep").args(["-r", "secret"]).arg(desk.store.root()).output().unwrap();
    assert!(kept.stdout.is_empty());
    assert_eq!(format!("{:?}", Token::new("secret").unwrap()), "Token(…)");
}

#[test]
fn a_circle_is_left() {
    let server = Server::start(|_, _| sent_on("/again"));
    let error = Desk::new().error(&format!("{}/x", server.url));
    assert!(error.contains("in a circle"), "{error}");
    assert_eq!(server.count(), 11);
}

#[test]
fn a_model_on_any_server_is_found_by_the_names_of_its_files() {
    let server = Server::start(|request, _| {
        let name = request.path.strip_prefix("/models/tiny/");
        MODEL.iter().find(|(file, _)| Some(*file) == name).map_or(status(404), |(_, bytes)| part(request, bytes))
    });
    let desk = Desk::new();
    let address = format!("{}/models/tiny/", server.url);
    let fetched = desk.try_fetch(ENDPOINT, &address, Extent::Model, None).unwrap();
    assert_eq!(fetched.files.len(), 4);
    let pinned = format!("{address}#{}", fetched.digest());
    assert_eq!(desk.try_fetch(ENDPOINT, &pinned, Extent::Model, None).unwrap(), fetched);
    let none = desk.try_fetch(ENDPOINT, &format!("{}/models/", server.url), Extent::Model, None).unwrap_err();
    assert!(none.to_string().contains("is no model: there is no `config.json`"), "{none}");
}

#[test]
fn a_file_that_the_hub_does_not_list_has_a_near_one() {
    let (server, desk) = (hub(&MODEL), Desk::new());
    let fetch = |file: &str, extent| {
        let fetched = desk.try_fetch(&server.url, &format!("hf://lab/tiny@{COMMIT}{file}"), extent, None);
        format!("{:#}", fetched.unwrap_err())
    };
    assert!(fetch("/confg.json", Extent::File).contains("did you mean `config.json`?"));
    assert!(fetch("", Extent::File).contains("is a repository: name a file"));
    assert!(fetch("/config.json", Extent::Model).contains("a model is a whole repository"));
    assert!(fetch("", Extent::Tokenizer).contains("no `tokenizer.json`"));
}
