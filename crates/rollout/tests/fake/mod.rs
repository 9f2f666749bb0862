//! A fake fleet, for tests and benches only: servers on loopback that speak the protocols of vLLM, SGLang and
//! OpenAI, with faults drawn from a seed. Nothing of it is in the program.
//!
//! HTTP is written by hand, because half of the faults are HTTP that no library would send. What is answered comes
//! from a [`Model`]: [`toy`] hashes, or a real policy where a test has one.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "several tests share it and each uses a part")]

pub mod answer;
pub mod toy;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Vllm,
    Sglang,
    /// Text only.
    Openai,
}

/// What a completion is asked with.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub tokens: Vec<u32>,
    pub seed: i64,
    pub max_tokens: usize,
    pub temperature: f32,
    pub top_k: i64,
    pub top_p: f32,
    pub stop: Vec<u32>,
}

/// A completion: tokens, one log-probability for each, and whether it ended by itself.
pub type Written = (Vec<u32>, Vec<f32>, bool);

/// Who writes.
pub trait Model: Send + Sync {
    fn complete(&self, asked: &Asked) -> Written;
    /// Log-probabilities of `tokens[1..]`.
    fn score(&self, tokens: &[u32]) -> Vec<f32>;
    fn load(&self, folder: &str) -> Result<(), String>;
    /// Computes with the adapter in a folder from now on.
    fn use_adapter(&self, folder: &str) -> Result<(), String> {
        self.load(folder)
    }
    fn tokens_of(&self, text: &str) -> Vec<u32>;
    fn text_of(&self, tokens: &[u32]) -> String;
}

/// What a server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After: 0`.
    TooMany,
    Internal,
    Unavailable,
    /// The connection is closed without a word.
    Closed,
    /// The answer takes a second longer.
    Slow,
    /// Half of the answer, then the connection is closed.
    Half,
    /// One choice fewer than asked for; none where one was asked for.
    Fewer,
    Nan,
    /// NaN in the first of several choices and in every second one after it.
    Gaps,
    OtherVersion,
    Html,
    /// Choices in reverse order.
    Reversed,
    /// Every choice twice.
    Twice,
    /// A token that does not exist.
    Token,
    /// A prompt with a token more.
    Longer,
    /// 400.
    Refused,
    /// No answer, ever.
    Never,
}

/// What a server's log-probabilities are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logprobs {
    /// The distribution that was drawn from.
    Drawn,
    /// The one at the temperature, before top-k.
    Tempered,
    /// The one at temperature 1.
    Raw,
    /// The same of a model that is certain of its likeliest token, and of all but that at temperature 1000.
    RawOfCertain,
    TemperedOfCertain,
}

/// How a server behaves.
#[derive(Clone)]
pub struct Behaviour {
    pub kind: Kind,
    pub model_name: String,
    pub seed: u64,
    /// Faults and how often each happens, in `[0, 1]`.
    pub faults: Vec<(Fault, f64)>,
    /// Requests that sample before the first fault.
    pub calm: u64,
    /// Time of one token.
    pub per_token: Duration,
    /// More requests than this get 503.
    pub capacity: usize,
    /// The key that has to be sent.
    pub key: Option<String>,
    /// Name of the weights at the start.
    pub version: String,
    /// What log-probabilities are of.
    pub logprobs: Logprobs,
    /// The first calls of these routes do what they should, and close the connection without a word.
    pub breaks: Vec<(&'static str, u64)>,
    /// One permit is taken by each completion that is given, those that a check asks for left out.
    pub gate: Option<Arc<Semaphore>>,
    /// `max_model_len`.
    pub positions: usize,
    /// Whether it can change weights.
    pub dev_mode: bool,
    /// Whether it can load adapters.
    pub adapters: bool,
}

impl Behaviour {
    pub fn new(kind: Kind) -> Behaviour {
        Behaviour {
            kind,
            model_name: "m".to_owned(),
            seed: 0,
            faults: Vec::new(),
            calm: 0,
            per_token: Duration::ZERO,
            capacity: usize::MAX,
            key: None,
            version: "default".to_owned(),
            logprobs: Logprobs::Drawn,
            breaks: Vec::new(),
            gate: None,
            positions: 4096,
            dev_mode: true,
            adapters: false,
        }
    }
}

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    /// Requests that sample.
    pub sampled: AtomicU64,
    /// Completions given.
    pub completions: AtomicU64,
    pub in_flight: AtomicU64,
    pub most_in_flight: AtomicU64,
    /// Calls by route.
    pub by_route: Mutex<HashMap<String, u64>>,
    /// Completions by hash of the prompt.
    pub by_start: Mutex<HashMap<u64, u64>>,
    /// Routes that change weights, in order.
    pub changes: Mutex<Vec<String>>,
    /// Faults so far.
    pub faults: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) behaviour: Behaviour,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) seen: Seen,
    pub(crate) version: Mutex<String>,
    /// Names of adapters and their folders.
    pub(crate) adapters: Mutex<BTreeMap<String, String>>,
    pub(crate) paused: AtomicBool,
    /// How long `/v1/models` takes.
    pub(crate) check_takes: Mutex<Duration>,
}

/// A server. It dies when it is dropped.
pub struct Fake {
    port: u16,
    /// Keeps the port while the server is dead: bound, and listening to nobody.
    _port_holder: TcpSocket,
    shared: Arc<Shared>,
    life: Mutex<Option<Life>>,
    handle: tokio::runtime::Handle,
}

/// A server that listens.
struct Life {
    /// Dropped at its end.
    end: watch::Sender<()>,
    /// Closed when it listens no more.
    ended: std::sync::mpsc::Receiver<()>,
}

impl Fake {
    /// Starts a server on the runtime's threads.
    pub fn start(runtime: &tokio::runtime::Runtime, behaviour: Behaviour, model: Arc<dyn Model>) -> Fake {
        let version = Mutex::new(behaviour.version.clone());
        let (seen, paused, check_takes) = (Seen::default(), AtomicBool::new(false), Mutex::default());
        let adapters = Mutex::default();
        let shared = Arc::new(Shared { behaviour, model, seen, version, adapters, paused, check_takes });
        let port_holder = socket(0);
        let port = port_holder.local_addr().unwrap().port();
        let (handle, life) = (runtime.handle().clone(), Mutex::new(None));
        let fake = Fake { port, _port_holder: port_holder, shared, life, handle };
        fake.listen();
        fake
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> &Seen {
        &self.shared.seen
    }

    pub fn version(&self) -> String {
        self.shared.version.lock().unwrap().clone()
    }

    pub fn is_paused(&self) -> bool {
        self.shared.paused.load(SeqCst)
    }

    /// Names of its adapters.
    pub fn adapters(&self) -> Vec<String> {
        self.shared.adapters.lock().unwrap().keys().cloned().collect()
    }

    /// As one that was started anew without anybody noticing.
    pub fn forget_adapters(&self) {
        self.shared.adapters.lock().unwrap().clear();
    }

    /// Leaves it as a process that was killed while the server read weights does.
    pub fn pause(&self) {
        self.shared.paused.store(true, SeqCst);
    }

    /// From now on a check takes at least so long.
    pub fn check_takes(&self, time: Duration) {
        *self.shared.check_takes.lock().unwrap() = time;
    }

    /// Closes every connection and refuses new ones.
    pub fn die(&self) {
        let Some(Life { end, ended }) = self.life.lock().unwrap().take() else { return };
        drop(end);
        // Nothing is sent: this waits for the other side to be dropped.
        let _ = ended.recv();
    }

    /// Comes back as a server that was started anew: with its first name for its weights.
    pub fn come_back(&self) {
        *self.shared.version.lock().unwrap() = self.shared.behaviour.version.clone();
        self.shared.paused.store(false, SeqCst);
        self.forget_adapters();
        self.listen();
    }

    fn listen(&self) {
        let (end, mut has_ended) = watch::channel(());
        let (listens, ended) = std::sync::mpsc::channel();
        let shared = self.shared.clone();
        let listener: TcpListener = {
            let _in_runtime = self.handle.enter();
            socket(self.port).listen(1024).unwrap()
        };
        *self.life.lock().unwrap() = Some(Life { end, ended });
        self.handle.spawn(async move {
            let _listens: std::sync::mpsc::Sender<()> = listens;
            // Declared after it, so closed before it.
            let listener = listener;
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let (shared, mut has_ended) = (shared.clone(), has_ended.clone());
                        tokio::spawn(async move {
                            tokio::select! {
                                _ = connection(stream, &shared) => {}
                                _ = has_ended.changed() => {}
                            }
                        });
                    }
                    _ = has_ended.changed() => return,
                }
            }
        });
    }
}

/// A socket of a port that a second one of ours may have, too.
fn socket(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(([127, 0, 0, 1], port).into()).unwrap();
    socket
}

/// A request as it came.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) key: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// What goes back.
pub(crate) enum Reply {
    Json(u16, Value),
    Bytes(u16, &'static str, Vec<u8>),
    /// Half of it, then the end.
    Half(Vec<u8>),
    Close,
    Never,
}

async fn connection(mut stream: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let counted = InFlight::new(shared);
        let reply = answer::answer(shared, &request, counted.now).await;
        drop(counted);
        let (status, kind, body) = match reply {
            Reply::Json(status, value) => (status, "application/json", value.to_string().into_bytes()),
            Reply::Bytes(status, kind, body) => (status, kind, body),
            Reply::Half(body) => {
                stream.write_all(&head(200, "application/json", body.len())).await?;
                stream.write_all(&body[..body.len() / 2]).await?;
                return stream.flush().await;
            }
            Reply::Close => return Ok(()),
            Reply::Never => {
                std::future::pending::<()>().await;
                return Ok(());
            }
        };
        let mut whole = head(status, kind, body.len());
        whole.extend_from_slice(&body);
        stream.write_all(&whole).await?;
    }
    Ok(())
}

fn head(status: u16, kind: &str, length: usize) -> Vec<u8> {
    let wait = if status == 429 { "Retry-After: 0\r\n" } else { "" };
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{wait}Content-Length: {length}\r\n\r\n").into_bytes()
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let mut chunk = [0; 16 << 10];
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    };
    let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, route) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let header = |name: &str| {
        let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let key = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    while buffer.len() < end + 4 + length {
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Ok(Some(Request { method, route, key, body }))
}

struct InFlight<'a> {
    shared: &'a Shared,
    now: u64,
}

impl<'a> InFlight<'a> {
    fn new(shared: &'a Shared) -> InFlight<'a> {
        let now = shared.seen.in_flight.fetch_add(1, SeqCst) + 1;
        shared.seen.most_in_flight.fetch_max(now, SeqCst);
        InFlight { shared, now }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.seen.in_flight.fetch_sub(1, SeqCst);
    }
}
