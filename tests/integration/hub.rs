//! Models and files of other machines: from a server on this one.

use crate::project::Project;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one set of data, whose rows also lie beside it as a file.
struct Hub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

const ROWS: &str = "{\"instruction\":\"Is 1 a number?\",\"output\":\"yes\",\"prediction\":\"yes\"}\n\
                    {\"instruction\":\"Is 2 a number?\",\"output\":\"yes\",\"prediction\":\"no\"}\n";

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let body = match path.as_str() {
                    "/api/datasets/lab/rows/revision/main?blobs=true" => Some(listing()),
                    path if path == format!("/api/datasets/lab/rows/revision/{COMMIT}?blobs=true") => Some(listing()),
                    path if path == format!("/datasets/lab/rows/resolve/{COMMIT}/data/rows.jsonl") => {
                        Some(ROWS.to_string())
                    }
                    "/files/rows.jsonl" => Some(ROWS.to_string()),
                    _ => None,
                };
                heard.lock().unwrap().push(path);
                let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
                let body = body.unwrap_or_default();
                let length = body.len();
                let _ =
                    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            }
        });
        Self { url, asked }
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn listing() -> String {
    format!(
        "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"data/rows.jsonl\", \"size\": {}}}]}}",
        ROWS.len()
    )
}

fn project(path: &str) -> Project {
    let project = Project::empty();
    let manifest = "titer = 1\nname = \"answers\"\n[mix.rows]\nsources = [{ path = \"PATH\" }]\n\
                    [score.quality]\npredictions = \"mix.rows\"\nscorers = [\"exact_match\"]\n";
    project.write("pipelines/p.toml", &manifest.replace("PATH", path));
    project
}

/// The address that `titer fetch` says to write.
fn pinned(project: &Project, hub: &Hub, address: &str) -> String {
    let output = project.titer(&["fetch", address, "--hub", &hub.url]);
    assert_eq!(output.code, 0, "{output:?}");
    let line = output.out.lines().find_map(|line| line.strip_prefix("write: \"")).unwrap();
    line.trim_end_matches('"').to_string()
}

#[test]
fn a_run_fetches_what_it_reads_once() {
    let hub = Hub::start();
    let project = project(&format!("hf://datasets/lab/rows@{COMMIT}/data/rows.jsonl"));
    let run = ["run", "pipelines/p.toml", "--hub", &hub.url];
    project.refuses(
        &["plan", "pipelines/p.toml"],
        2,
        &["pipelines/p.toml:4:21", "has not been fetched yet", "`titer run` fetches what it needs"],
    );
    assert_eq!(hub.count(), 0, "a plan needs no network");
    let output = project.titer(&run);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("fetched") && output.out.contains("2 ran"), "{output:?}");
    let before = hub.count();
    project.edit("pipelines/p.toml", "name = \"answers\"", "name = \"again\"");
    let output = project.titer(&run);
    assert!(output.code == 0 && output.out.contains("2 cached"), "{output:?}");
    assert_eq!(hub.count(), before, "what is here is not asked for");
    // The bytes that a key was made of are not needed for what is cached.
    let freed = project.titer(&["gc", "--fetched", "--yes", "--grace", "0s"]);
    assert_eq!(freed.code, 0, "{freed:?}");
    project.edit("pipelines/p.toml", "name = \"again\"", "name = \"anew\"");
    assert!(project.titer(&run).out.contains("2 cached"));
    assert_eq!(hub.count(), before);
    project.edit("pipelines/p.toml", "[mix.rows]", "[mix.rows]\nseed = 7");
    let output = project.titer(&run);
    assert!(output.code == 0 && output.out.contains("fetched hf://"), "{output:?}");
    assert!(hub.count() > before, "what is gone is fetched for what runs");
}

#[test]
fn equal_bytes_are_equal_wherever_they_come_from() {
    let hub = Hub::start();
    let project = project("data/rows.jsonl");
    project.write("data/rows.jsonl", ROWS);
    assert_eq!(project.run().len(), 2);
    let address = pinned(&project, &hub, &format!("{}/files/rows.jsonl", hub.url));
    project.edit("pipelines/p.toml", "data/rows.jsonl", &address);
    assert!(project.run().is_empty(), "the same bytes, the same keys");
}

#[test]
fn an_address_that_may_change_is_refused_and_the_pinned_one_is_said() {
    let hub = Hub::start();
    for (address, reason) in [
        ("hf://datasets/lab/rows/data/rows.jsonl".to_string(), "names no revision"),
        ("hf://datasets/lab/rows@main/data/rows.jsonl".to_string(), "names `main`, which may move"),
        (format!("{}/files/rows.jsonl", hub.url), "has no digest"),
    ] {
        let project = project(&address);
        let hint = format!("`titer fetch {address}` fetches what is there now");
        project.refuses(&["check", "pipelines/p.toml"], 2, &["pipelines/p.toml:4:21", reason, &hint]);
        let written = pinned(&project, &hub, &address);
        project.edit("pipelines/p.toml", &address, &written);
        assert_eq!(project.run().len(), 2, "{written}");
    }
}

#[test]
fn what_cannot_be_fetched_is_said_at_its_place() {
    let hub = Hub::start();
    let address = format!("hf://datasets/lab/none@{COMMIT}/rows.jsonl");
    let run = ["run", "pipelines/p.toml", "--hub", &hub.url];
    let project = project(&address);
    project.refuses(&run, 2, &["pipelines/p.toml:4:21", &address, "knows no such repository or revision (404)"]);
    let url = format!("{}/files/rows.jsonl", hub.url);
    project.edit("pipelines/p.toml", &address, &format!("{url}#{}", "ab".repeat(32)));
    project.refuses(&run, 2, &["pipelines/p.toml:4:21", "has other bytes than its digest says", "not abab"]);
    project.edit("pipelines/p.toml", &"ab".repeat(32), "abab");
    project.refuses(&run, 2, &["pipelines/p.toml:4:21", "`abab` behind the `#`", "no digest"]);
    project.refuses(&["fetch", "hf://a/b@main", "--hub", "nonsense"], 2, &["`nonsense` is no address of a hub"]);
    let mut command = project.command(&["fetch", "hf://a/b", "--hub", &hub.url]);
    let output = command.env("HF_TOKEN", "hf_secret").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("no such repository") && !said.contains("hf_secret"), "{said}");
}
