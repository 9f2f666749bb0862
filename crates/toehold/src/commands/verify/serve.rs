//! The verifier as an HTTP server, in three forms.
//!
//! | path | in | out |
//! |---|---|---|
//! | `POST /verify` | `{"rows": [row, …]}`, rows as in the JSON lines | `{"rows": [row, …]}`, in their order |
//! | `POST /openrlhf` | `{"query": […], "prompts": […], "labels": […]}` | `{"rewards": […], "scores": […], "extra_logs": {}}` |
//! | `POST /verl` | `{"data_source", "solution_str", "ground_truth", "extra_info"}`, or a list of such | `{"score", "acc", "outcome"}`, or a list |
//! | `GET /health` | | `{"status": "ok", "requests", "verdicts"}` |
//!
//! Bounds: a body of at most [`Bounds::body`] bytes, at most [`Bounds::connections`] connections (more wait
//! to be accepted), a deadline for the head of a request, for its body and for its answer. Verdicts are
//! worked out on threads of their own, as many at a time as there are cores, so that a slow client keeps
//! nobody waiting. Nothing that a client sends is run, unless whoever starts the server names an interpreter
//! or a command: rows may then ask for the verifiers `program` and `command`. No file is read for a client.
//!
//! Every request gets exactly one answer; one that breaks a bound gets it as `{"error": "..."}` with 400,
//! 404, 405, 408, 413 or 503. The server ends on Ctrl-C when the requests it holds are answered.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::forms::Form;
use super::rows::Verifiers;
use crate::interrupt;

/// What the server puts up with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of a request's body at most.
    pub(super) body: usize,
    /// Connections at a time.
    pub(super) connections: usize,
    /// For the head of a request, and again for its body.
    pub(super) patience: Duration,
    /// For the verdicts of one request.
    pub(super) deadline: Duration,
}

/// Counts since the server began.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    verdicts: AtomicU64,
}

/// What all connections share.
struct Shared {
    bounds: Bounds,
    verifiers: Verifiers,
    counts: Counts,
    /// As many requests are worked on at a time as there are permits.
    work: Arc<Semaphore>,
}

/// An answer, or the status and the sentence of a refusal.
type Answer = Result<Value, (StatusCode, String)>;

/// Serves until Ctrl-C; `ready` hears the address once it can be connected to. Returns how many requests
/// and verdicts there were.
///
/// # Errors
/// An address that cannot be listened on.
pub(super) fn serve(
    address: &str,
    bounds: Bounds,
    verifiers: Verifiers,
    ready: impl FnOnce(SocketAddr),
) -> Result<(u64, u64)> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true).context("cannot listen without waiting")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Arc::new(Semaphore::new(cores));
    let shared = Arc::new(Shared { bounds, verifiers, counts: Counts::default(), work });
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).context("cannot listen")?;
        ready(listener.local_addr().context("cannot tell the address")?);
        accept(listener, &shared).await;
        let Counts { requests, verdicts } = &shared.counts;
        Ok((requests.load(Ordering::Relaxed), verdicts.load(Ordering::Relaxed)))
    })
}

async fn accept(listener: tokio::net::TcpListener, shared: &Arc<Shared>) {
    let Bounds { connections, patience, deadline, .. } = shared.bounds;
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let accepted = async {
            // A place first: what is not accepted waits in the system's queue and costs nothing here.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (stream, place) = tokio::select! {
            accepted = accepted => match accepted {
                Some((Ok((stream, _)), place)) => (stream, place),
                // Out of file descriptors, or a client that is gone already: the next may do.
                Some((Err(_), _)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                None => break,
            },
            () = interrupted() => break,
        };
        // Answers are small and waited for; without it some systems hold them back for 40 ms.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(shared);
        let service = service_fn(move |request| respond(Arc::clone(&shared), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A broken connection is the client's own affair: its request was answered or never came whole.
            let _ = connection.await;
            drop(place);
        });
    }
    // Clients that hold a connection open and say nothing are not waited for.
    let _ = tokio::time::timeout(deadline, graceful.shutdown()).await;
}

async fn interrupted() {
    while !interrupt::requested() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    shared.counts.requests.fetch_add(1, Ordering::Relaxed);
    let (status, value) = match answer(&shared, request).await {
        Ok(value) => (StatusCode::OK, value),
        Err((status, error)) => (status, json!({ "error": error })),
    };
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // The rest of the body is not read, so nothing after it on this connection could be understood.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if path == "/health" && request.method() == Method::GET {
        let Counts { requests, verdicts } = &shared.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        return Ok(json!({ "status": "ok", "requests": count(requests), "verdicts": count(verdicts) }));
    }
    let Some(form) = Form::of_path(&path) else {
        let error = format!("there is no {path}, only /verify, /openrlhf, /verl, /judge and /health");
        return Err((StatusCode::NOT_FOUND, error));
    };
    if request.method() != Method::POST {
        let error = format!("{path} takes POST, not {}", request.method());
        return Err((StatusCode::METHOD_NOT_ALLOWED, error));
    }
    let body = body(&shared.bounds, request).await?;
    // Waiting for a turn counts: a client that has to wait for ever is told so.
    let worked = async {
        let turn = Arc::clone(&shared.work).acquire_owned().await;
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || {
            let answer = form.answer(&body, &shared.verifiers, |rows| {
                let _ = shared.counts.verdicts.fetch_add(rows as u64, Ordering::Relaxed);
            });
            drop(turn);
            answer
        })
        .await
    };
    match tokio::time::timeout(shared.bounds.deadline, worked).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err((StatusCode::BAD_REQUEST, format!("{error:#}"))),
        Ok(Err(_)) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the verifier failed".to_owned())),
        Err(_) => {
            let error = format!("no verdict within {:?}; send fewer rows at a time", shared.bounds.deadline);
            Err((StatusCode::SERVICE_UNAVAILABLE, error))
        }
    }
}

async fn body(bounds: &Bounds, request: Request<Incoming>) -> Result<Bytes, (StatusCode, String)> {
    let too_long = || (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {} bytes", bounds.body));
    // A length that was announced is refused before a byte of it is kept.
    if request.body().size_hint().lower() > bounds.body as u64 {
        return Err(too_long());
    }
    let read = Limited::new(request.into_body(), bounds.body).collect();
    match tokio::time::timeout(bounds.patience, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {:?}", bounds.patience))),
    }
}
