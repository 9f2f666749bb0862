//! Calls to one server of the Tinker API: a session that is kept alive, and futures that are waited for.
//!
//! A call that changes weights is sent once: when its answer is lost, nobody can say whether it happened, so
//! the run stops, and goes on from its checkpoint. Sampling, scoring and waiting for a future change nothing and are
//! repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::TinkerError;
use super::protocol::parse;
use crate::remote::http::{Address, Cause, Http, HttpError};

/// A session on one server.
#[derive(Debug)]
pub(super) struct Session {
    server: Arc<Server>,
    runtime: Runtime,
    id: String,
    seq: AtomicU64,
}

/// A server and how it is asked.
#[derive(Debug)]
struct Server {
    http: Http,
    address: Address,
    /// How long a future may take in all.
    patience: Duration,
}

/// How long one question may take; a future is asked for again and again.
const CALL: Duration = Duration::from_secs(60);
/// How often the server hears that we are still there. Servers forget a session after minutes.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Questions at once.
const IN_FLIGHT: usize = 64;
/// Routes that change nothing on the server, so that a question may be sent twice.
const HARMLESS: [&str; 2] = ["asample", "forward"];
/// How often such a question is sent while the connection breaks, within 4 s.
const SENT_AT_MOST: u32 = 5;

impl Session {
    /// Opens a session, and tells the server every 20 seconds that it is still wanted.
    pub(super) fn open(http: Http, address: Address, patience: Duration) -> Result<Session, TinkerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(TinkerError::Start)?;
        let server = Arc::new(Server { http, address, patience });
        let body = json!({ "tags": ["toehold"], "sdk_version": env!("CARGO_PKG_VERSION"), "type": "create_session" });
        let answer = runtime.block_on(server.post("create_session", &body, CALL))?;
        let id = text(&server, "create_session", &answer, "session_id")?;
        runtime.spawn(keep_alive(server.clone(), id.clone()));
        Ok(Session { server, runtime, id, seq: AtomicU64::new(1) })
    }

    /// The session's name on the server.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The server's address.
    pub(super) fn address(&self) -> &Address {
        &self.server.address
    }

    /// The number of the next call that changes something; calls of one session are counted from 1.
    pub(super) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks a route that answers at once.
    pub(super) fn get(&self, route: &str) -> Result<Value, TinkerError> {
        let path = path(route);
        Ok(self.runtime.block_on(self.server.http.get(&self.server.address, &path, CALL))?)
    }

    /// Asks for something and does not wait for it.
    pub(super) fn tell(&self, route: &str, body: &Value) -> Result<(), TinkerError> {
        self.runtime.block_on(self.server.post(route, body, CALL))?;
        Ok(())
    }

    /// Asks for something that takes time, and waits for it.
    pub(super) fn call(&self, route: &str, body: &Value) -> Result<Value, TinkerError> {
        self.runtime.block_on(self.server.future(route, body))
    }

    /// Asks all of `bodies` of one route, some at once, and hands over each answer as it comes. A `false`
    /// from `each` ends it: what was not asked yet is not asked, and what is on its way is not waited for.
    pub(super) fn call_all(
        &self,
        route: &'static str,
        bodies: Vec<Value>,
        each: &mut dyn FnMut(usize, Value) -> Result<bool, TinkerError>,
    ) -> Result<(), TinkerError> {
        self.runtime.block_on(async {
            let mut waiting = bodies.into_iter().enumerate();
            let mut asked = tokio::task::JoinSet::new();
            loop {
                while asked.len() < IN_FLIGHT
                    && let Some((index, body)) = waiting.next()
                {
                    let server = self.server.clone();
                    asked.spawn(async move { (index, server.future(route, &body).await) });
                }
                let Some(answered) = asked.join_next().await else { return Ok(()) };
                let (index, answer) =
                    answered.map_err(|error| TinkerError::Start(std::io::Error::other(error.to_string())))?;
                if !each(index, answer?)? {
                    return Ok(());
                }
            }
        })
    }

    /// An answer that is not what it should be.
    pub(super) fn unreadable(&self, route: &str, reason: String) -> TinkerError {
        self.server.unreadable(route, reason)
    }
}

impl Server {
    async fn post(&self, route: &str, body: &Value, deadline: Duration) -> Result<Value, HttpError> {
        self.http.post(&self.address, &path(route), body, deadline).await
    }

    /// Asks for something that takes time.
    async fn promise(&self, route: &str, body: &Value) -> Result<Value, HttpError> {
        let mut left = if HARMLESS.contains(&route) { SENT_AT_MOST } else { 1 };
        let mut pause = Duration::from_millis(100);
        loop {
            left -= 1;
            match self.post(route, body, CALL).await {
                Err(HttpError { cause: Cause::Connect(_) | Cause::Broken(_), .. }) if left > 0 => {}
                answered => return answered,
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
    }

    /// Asks, and then asks for what came of it until it is there.
    async fn future(&self, route: &str, body: &Value) -> Result<Value, TinkerError> {
        let begun = Instant::now();
        let promise = self.promise(route, body).await?;
        let request = text(self, route, &promise, "request_id")?;
        let body = json!({ "request_id": request });
        let mut pause = Duration::from_millis(100);
        loop {
            let left = self.patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(TinkerError::NoAnswer {
                    endpoint: self.address.to_string(),
                    route: route.to_owned(),
                    seconds: self.patience.as_secs(),
                });
            }
            match self.post("retrieve_future", &body, left).await {
                Ok(answer) if is_retry(&answer) => {}
                Ok(answer) => return Ok(answer),
                // 408 is the protocol's word for "not yet"; the others are a server or a line that comes back.
                Err(HttpError { cause: Cause::Status { status: 408 | 429 | 502 | 503 | 504, .. }, .. }) => {}
                Err(HttpError { cause: Cause::Connect(_) | Cause::Broken(_), .. }) => {}
                // What the server says is about the call, not about waiting for it.
                Err(HttpError { endpoint, cause, .. }) => {
                    return Err(HttpError { endpoint, route: path(route), cause }.into());
                }
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(2));
        }
    }

    fn unreadable(&self, route: &str, reason: String) -> TinkerError {
        TinkerError::Answer { endpoint: self.address.to_string(), route: path(route), reason }
    }
}

/// Whether an answer only says that there is none yet.
fn is_retry(answer: &Value) -> bool {
    answer.get("type").and_then(Value::as_str) == Some("try_again")
}

/// The text at `key`; numbers count as text, since servers number their futures.
fn text(server: &Server, route: &str, answer: &Value, key: &str) -> Result<String, TinkerError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Number(u64),
    }
    let value = answer.get(key).cloned().unwrap_or(Value::Null);
    match parse(value) {
        Ok(Name::Text(text)) => Ok(text),
        Ok(Name::Number(number)) => Ok(number.to_string()),
        Err(_) => Err(server.unreadable(route, format!("it has no `{key}`"))),
    }
}

async fn keep_alive(server: Arc<Server>, id: String) {
    let body = json!({ "session_id": id, "type": "session_heartbeat" });
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        // A beat that fails is no news: the next call that matters fails for the same reason, and says so.
        let _ = server.post("session_heartbeat", &body, CALL).await;
    }
}

fn path(route: &str) -> String {
    format!("/api/v1/{route}")
}
