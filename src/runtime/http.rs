//! The HTTP listener of `millrace.metrics.listener`: metrics, health, version. It has threads of its own, one for each
//! connection, of which there are few and none for long; shards do nothing for it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use httparse::Status;

use super::budget::Pool;
use super::version::{VERSION, commit};
use super::{process, sys};
use crate::base::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEAD_MS_MAX, HTTP_HEADERS_MAX, HTTP_TIME_MS_MAX,
};
use crate::broker::metrics::{self, Format, Node, ToldTopics};
use crate::broker::trace::Board;

/// How long the listener waits when it was not given a connection, for lack of descriptors above all.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client that was answered may take to close, so that what it still sends does not cost it the answer.
const LINGER: Duration = Duration::from_millis(200);

/// For how long metrics that were made are good for others who ask.
const MADE_FOR: Duration = Duration::from_millis(250);
/// How often what shards have to tell is taken, whether anybody asks for it or not.
const GATHER_EVERY: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What a node is doing, as far as those outside care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Reading its stores, finding other nodes, loading what it coordinates.
    Starting,
    /// Taking requests.
    Serving,
    /// Ending what is in flight.
    Stopping,
}

/// What can be seen of a node from outside.
pub struct Outside {
    id: i32,
    /// A [`Doing`].
    doing: AtomicU8,
    pools: Vec<Arc<Pool>>,
    boards: Vec<Arc<Board>>,
    /// What shards have told of; they have no part in the lock.
    topics: Mutex<ToldTopics>,
    /// The metrics as they were made last.
    made: Mutex<Option<(Format, Instant, String)>>,
}

impl Outside {
    /// A node that is starting: its request memory, and where its shards count.
    #[must_use]
    pub fn new(id: i32, pools: Vec<Arc<Pool>>, boards: Vec<Arc<Board>>) -> Arc<Self> {
        let doing = AtomicU8::new(Doing::Starting as u8);
        Arc::new(Self {
            id,
            doing,
            pools,
            boards,
            topics: Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// Takes what shards have to tell.
    fn gather(&self) -> MutexGuard<'_, ToldTopics> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.gather(&self.boards);
        topics
    }

    /// It does something else now; never what it did before.
    pub fn does(&self, doing: Doing) {
        self.doing.fetch_max(doing as u8, Ordering::Relaxed);
    }

    fn doing(&self) -> Doing {
        match self.doing.load(Ordering::Relaxed) {
            0 => Doing::Starting,
            1 => Doing::Serving,
            _ => Doing::Stopping,
        }
    }

    /// All metrics. One thread at a time makes them, for all who ask within a moment, and only when no shard wants the
    /// core.
    fn metrics(&self, format: Format) -> Result<String, fmt::Error> {
        sys::step_back();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, at, text)) = &*made
            && *of == format
            && at.elapsed() < MADE_FOR
        {
            return Ok(text.clone());
        }
        let text = metrics::text(&self.node(), format)?;
        *made = Some((format, Instant::now(), text.clone()));
        Ok(text)
    }

    fn node(&self) -> Node {
        let mut request_bytes = [0; 2];
        for pool in &self.pools {
            for (sum, bytes) in request_bytes.iter_mut().zip(pool.leased()) {
                *sum += bytes as u64;
            }
        }
        let (topics, topics_left_out) = self.gather().busiest();
        Node {
            id: self.id,
            version: VERSION,
            commit: commit(),
            is_ready: self.doing() == Doing::Serving,
            process: process::look(),
            request_bytes,
            boards: self.boards.clone(),
            topics,
            topics_left_out,
        }
    }
}

/// Answers on this socket from now on.
///
/// # Errors
/// The system gives no thread.
pub fn serve(listener: TcpListener, outside: Arc<Outside>) -> io::Result<()> {
    let gathering = Arc::clone(&outside);
    let thread = std::thread::Builder::new().name("http-gather".into());
    thread.spawn(move || {
        sys::step_back();
        loop {
            drop(gathering.gather());
            std::thread::sleep(GATHER_EVERY);
        }
    })?;
    let thread = std::thread::Builder::new().name("http".into());
    thread.spawn(move || accept(&listener, &outside)).map(drop)
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    count: AtomicUsize,
    /// Those that have not said what they want, the oldest first.
    silent: Mutex<VecDeque<(u64, TcpStream)>>,
}

impl Open {
    fn silent(&self) -> MutexGuard<'_, VecDeque<(u64, TcpStream)>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more, if need be by ending the one that has been silent for longest. Whether there is room.
    fn admits(&self) -> bool {
        if self.count.load(Ordering::Relaxed) < HTTP_CONNECTIONS_MAX {
            return true;
        }
        let Some((_, oldest)) = self.silent().pop_front() else {
            return false;
        };
        let _ = oldest.shutdown(Shutdown::Both);
        true
    }
}

/// One of them, counted until it goes.
struct Counted {
    open: Arc<Open>,
    number: u64,
}

impl Counted {
    fn new(open: &Arc<Open>, number: u64, stream: &TcpStream) -> io::Result<Self> {
        let shared = stream.try_clone()?;
        open.silent().push_back((number, shared));
        open.count.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            open: Arc::clone(open),
            number,
        })
    }

    /// It has said what it wants.
    fn has_spoken(&self) {
        self.open
            .silent()
            .retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.has_spoken();
        self.open.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, outside: &Arc<Outside>) {
    let open = Arc::new(Open::default());
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        if !open.admits() {
            continue;
        }
        let Ok(counted) = Counted::new(&open, number, &stream) else {
            continue;
        };
        let outside = Arc::clone(outside);
        let answer = move || {
            // Who is gone needs no answer.
            let _ = converse(stream, &outside, &counted);
        };
        let thread = std::thread::Builder::new().name("http-answer".into());
        // Where there is no thread, the connection ends with what it would have been given.
        let _ = thread.spawn(answer);
    }
}

/// Reads one request and answers it.
fn converse(mut stream: TcpStream, outside: &Outside, counted: &Counted) -> io::Result<()> {
    let began = Instant::now();
    let until = began + Duration::from_millis(HTTP_TIME_MS_MAX);
    let head_until = began + Duration::from_millis(HTTP_HEAD_MS_MAX);
    let Some(answer) = read_request(&mut stream, outside, head_until)? else {
        return Ok(());
    };
    counted.has_spoken();
    let bytes = answer.bytes();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(rest)? {
            0 => return Ok(()),
            written => rest = &rest[written..],
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let until = until.min(Instant::now() + LINGER);
    let mut scratch = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        if stream.read(&mut scratch)? == 0 {
            return Ok(());
        }
    }
}

/// The time that is left; an error when there is none.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// What to answer, as soon as the bytes of a request say it; nothing if the client closes before.
fn read_request(
    stream: &mut TcpStream,
    outside: &Outside,
    until: Instant,
) -> io::Result<Option<Answer>> {
    let mut head = Vec::new();
    let mut more = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        let read = stream.read(&mut more)?;
        if read == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&more[..read]);
        if let Some(answer) = answer(&head, outside) {
            return Ok(Some(answer));
        }
    }
}

/// An answer to be sent.
#[derive(Debug)]
struct Answer {
    status: &'static str,
    media: &'static str,
    /// A header line more, or nothing.
    extra: &'static str,
    body: String,
    /// The body is not sent, only said how long it is.
    is_head: bool,
}

impl Answer {
    fn new(status: &'static str, media: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            media,
            extra: "",
            body: body.into(),
            is_head: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self {
            status,
            media,
            extra,
            body,
            is_head,
        } = self;
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n{extra}Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if !is_head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

/// The answer to a request that begins with these bytes; `None` as long as they do not say what it is.
fn answer(head: &[u8], outside: &Outside) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let (method, path) = match request.parse(head) {
        Ok(Status::Partial) if head.len() <= HTTP_HEAD_BYTES_MAX => return None,
        Ok(Status::Complete(_)) => (request.method?, request.path?),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            let status = "431 Request Header Fields Too Large";
            return Some(Answer::new(status, TEXT, "too large\n"));
        }
        Err(_) => {
            let what = "this is no HTTP request\n";
            return Some(Answer::new("400 Bad Request", TEXT, what));
        }
    };
    if !matches!(method, "GET" | "HEAD") {
        let mut refused = Answer::new("405 Method Not Allowed", TEXT, "GET or HEAD\n");
        refused.extra = "Allow: GET, HEAD\r\n";
        return Some(refused);
    }
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let mut headers = request.headers.iter();
    let accepts = headers.find(|header| header.name.eq_ignore_ascii_case("accept"));
    let accepts = accepts.and_then(|header| std::str::from_utf8(header.value).ok());
    let mut answer = found(path, Format::accepted(accepts.unwrap_or("")), outside);
    answer.is_head = method == "HEAD";
    Some(answer)
}

fn found(path: &str, format: Format, outside: &Outside) -> Answer {
    match path {
        "/metrics" => {
            let Ok(text) = outside.metrics(format) else {
                let what = "a metric cannot be written: please report this\n";
                return Answer::new("500 Internal Server Error", TEXT, what);
            };
            Answer::new("200 OK", format.media_type(), text)
        }
        // Whoever reads this lives.
        "/health/live" => Answer::new("200 OK", TEXT, "live\n"),
        "/health/ready" => match outside.doing() {
            Doing::Serving => Answer::new("200 OK", TEXT, "ready\n"),
            Doing::Starting => Answer::new("503 Service Unavailable", TEXT, "starting\n"),
            Doing::Stopping => Answer::new("503 Service Unavailable", TEXT, "stopping\n"),
        },
        "/version" => {
            let commit = commit().map_or("null".to_owned(), |commit| format!("\"{commit}\""));
            let id = outside.id;
            let body =
                format!("{{\"version\":\"{VERSION}\",\"commit\":{commit},\"node_id\":{id}}}\n");
            Answer::new("200 OK", JSON, body)
        }
        _ => {
            let known = "/metrics, /health/live, /health/ready, /version\n";
            Answer::new("404 Not Found", TEXT, format!("there are {known}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside() -> Arc<Outside> {
        Outside::new(7, vec![Pool::new(1 << 20, 1)], vec![Arc::default()])
    }

    fn said(request: &str) -> String {
        let outside = outside();
        outside.does(Doing::Serving);
        String::from_utf8(answer(request.as_bytes(), &outside).unwrap().bytes()).unwrap()
    }

    #[test]
    fn each_page_is_found() {
        let get = |path: &str| said(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(get("/metrics").contains("\nmillrace_ready 1\n"));
        assert!(get("/metrics?x=1").starts_with("HTTP/1.1 200 OK\r\n"));
        let open = said("GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n");
        assert!(open.contains("application/openmetrics-text") && open.ends_with("# EOF\n"));
        assert!(get("/health/live").ends_with("\r\n\r\nlive\n"));
        assert!(get("/health/ready").ends_with("\r\n\r\nready\n"));
        assert!(get("/version").ends_with(",\"node_id\":7}\n"));
        assert!(get("/").starts_with("HTTP/1.1 404 "));
        let head = said("HEAD /health/live HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_node_is_ready_only_while_it_serves() {
        let outside = outside();
        let status = |outside: &Outside| found("/health/ready", Format::Text, outside);
        assert_eq!(status(&outside).body, "starting\n");
        outside.does(Doing::Stopping);
        outside.does(Doing::Serving);
        assert_eq!(status(&outside).body, "stopping\n", "there is no way back");
        assert!(status(&outside).status.starts_with("503"));
        assert_eq!(found("/health/live", Format::Text, &outside).body, "live\n");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(said("POST /metrics HTTP/1.1\r\n\r\n").contains("\r\nAllow: GET, HEAD\r\n"));
        for bad in ["\0\0\0\x12\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9\r\n\r\n"] {
            assert!(said(bad).starts_with("HTTP/1.1 400 "), "{bad:?}");
        }
        let long = format!("GET /{} HTTP/1.1", "a".repeat(HTTP_HEAD_BYTES_MAX));
        assert!(said(&long).starts_with("HTTP/1.1 431 "));
        let many = "A: b\r\n".repeat(HTTP_HEADERS_MAX + 1);
        assert!(said(&format!("GET / HTTP/1.1\r\n{many}\r\n")).starts_with("HTTP/1.1 431 "));
        for part in ["", "G", "GET / HTTP/1.1\r\nA: b\r\n"] {
            assert!(answer(part.as_bytes(), &outside()).is_none(), "{part:?}");
        }
    }

    #[test]
    fn silent_connections_keep_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, outside()).unwrap();
        let connect = || TcpStream::connect(address).unwrap();
        let mut silent: VecDeque<TcpStream> =
            (0..2 * HTTP_CONNECTIONS_MAX).map(|_| connect()).collect();
        for _ in 0..3 * HTTP_CONNECTIONS_MAX {
            // Who keeps coming again finds others in between.
            silent.pop_front();
            silent.push_back(connect());
            let mut stream = connect();
            stream
                .write_all(b"GET /health/live HTTP/1.1\r\n\r\n")
                .unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert!(said.ends_with("live\n"), "{said}");
        }
    }
}
