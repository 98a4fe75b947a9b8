//! A page over HTTP on this machine's own address: a few fixed routes, nothing that is written, no files.
//!
//! By hand, but for `httparse`, which reads the head of a request: what there is to do is less than what a server crate
//! would have to be told. Other sites that a browser shows may ask this address too, under a name of theirs that leads
//! here; so a request must call this machine by a name of its own.

use anyhow::{Context as _, bail};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The head of a request may have this many bytes.
const LONGEST: usize = 16 << 10;
/// How long a browser may be silent that has opened a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether the person wants it to end.
const LOOK: Duration = Duration::from_millis(50);
/// Connections at once; a browser opens six.
const CONNECTIONS: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The path, as it was sent.
    pub(super) path: String,
    /// What stands behind `?`.
    pub(super) query: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: &'static str,
    kind: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind, body: body.into() }
    }

    /// A page.
    pub(super) fn html(text: String) -> Self {
        Self::new("200 OK", "text/html; charset=utf-8", text)
    }

    /// A JSON document.
    pub(super) fn json(text: String) -> Self {
        Self::new("200 OK", "application/json", text)
    }

    /// Bytes.
    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self::new("200 OK", "application/octet-stream", bytes)
    }

    /// There is no such thing.
    pub(super) fn absent() -> Self {
        Self::new("404 Not Found", "text/plain; charset=utf-8", "not found\n")
    }

    /// Something went wrong here.
    pub(super) fn failure(message: &str) -> Self {
        Self::new("500 Internal Server Error", "text/plain; charset=utf-8", format!("{message}\n"))
    }

    fn refusal(status: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{status}\n"))
    }

    fn send(&self, stream: &mut TcpStream, with_body: bool) -> std::io::Result<()> {
        let Self { status, kind, body } = self;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        if with_body { stream.write_all(body) } else { Ok(()) }
    }
}

/// Takes a port of this machine's own address; 0: any that is free.
pub(super) fn listen(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!(
                "port {port} is taken by another program: name another with `--port N`, or any free one with `--port 0`"
            )
        }
        listener => listener.with_context(|| format!("cannot serve on port {port}")),
    }
}

/// Answers until it is interrupted. Each connection has a thread: a browser may open some that it does not use.
pub(super) fn serve(
    listener: &TcpListener,
    interrupted: &AtomicBool,
    answer: &(impl Fn(&Request) -> Answer + Sync),
) -> anyhow::Result<()> {
    listener.set_nonblocking(true).context("cannot serve")?;
    let open = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|threads| {
        while !interrupted.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) if open.load(Ordering::SeqCst) < CONNECTIONS => {
                    open.fetch_add(1, Ordering::SeqCst);
                    let open = &open;
                    threads.spawn(move || {
                        // Who has gone away wants no answer.
                        let _ = speak(stream, interrupted, answer);
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    std::thread::sleep(LOOK);
                }
                // Of one connection, or for want of files: others may come.
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    });
    Ok(())
}

fn speak(mut stream: TcpStream, interrupted: &AtomicBool, answer: &impl Fn(&Request) -> Answer) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(head) = read_head(&mut stream, interrupted)? else { return Ok(()) };
    let (reply, with_body) = match parse(&head) {
        Ok((request, with_body)) => (answer(&request), with_body),
        Err(status) => (Answer::refusal(status), true),
    };
    reply.send(&mut stream, with_body)
}

/// The head of a request, with its empty line; none if none comes.
fn read_head(stream: &mut TcpStream, interrupted: &AtomicBool) -> std::io::Result<Option<Vec<u8>>> {
    let begun = std::time::Instant::now();
    let mut head = Vec::new();
    let mut part = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST {
        if begun.elapsed() > PATIENCE || interrupted.load(Ordering::SeqCst) {
            return Ok(None);
        }
        match stream.read(&mut part) {
            Ok(0) => return Ok(None),
            Ok(count) => head.extend(&part[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(head))
}

/// What is asked for, and whether with a body; `Err` is the status with which it is refused.
fn parse(head: &[u8]) -> Result<(Request, bool), &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err("431 Request Header Fields Too Large"),
        Err(_) => return Err("400 Bad Request"),
    }
    let mut hosts = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_own(host.value) => {}
        _ => return Err("403 Forbidden"),
    }
    let with_body = match parsed.method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Err("405 Method Not Allowed"),
    };
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok((Request { path: path.to_string(), query: query.to_string() }, with_body))
}

/// Whether a host is this machine by a name that no other site can have; whatever the port, which may be forwarded.
fn is_own(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> Result<(String, String, bool), &'static str> {
        parse(head.as_bytes()).map(|(request, with_body)| (request.path, request.query, with_body))
    }

    #[test]
    fn only_requests_by_an_own_name_are_answered() {
        for host in ["127.0.0.1:8123", "localhost", "LOCALHOST:9", "[::1]:80"] {
            let found = asked(&format!("GET /page.json?since=a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(found, Ok(("/page.json".to_string(), "since=a".to_string(), true)), "{host}");
        }
        for host in ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "localhost.", "", "127.0.0.1:80:80"]
        {
            assert_eq!(asked(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), Err("403 Forbidden"), "{host}");
        }
        assert_eq!(asked("GET / HTTP/1.1\r\n\r\n"), Err("403 Forbidden"));
        let two = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
        assert_eq!(asked(two), Err("403 Forbidden"));
    }

    #[test]
    fn nothing_is_written_and_no_noise_is_understood() {
        assert_eq!(asked("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"), Err("405 Method Not Allowed"));
        assert_eq!(asked("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").map(|(.., with_body)| with_body), Ok(false));
        assert_eq!(asked("\u{16}\u{3}\u{1}\r\n\r\n"), Err("400 Bad Request"));
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST));
        assert_eq!(asked(&long), Err("431 Request Header Fields Too Large"));
    }
}
