//! HTTP for remote engines: JSON in and out, with bounds, deadlines, and errors that name endpoint and cause.
//!
//! Whatever a server does, a call ends within its deadline, keeps at most [`Http::BODY_LIMIT`] bytes of the
//! answer, and gives either what was asked for or one [`HttpError`]. Redirects are refused: they would carry
//! the key elsewhere. Loopback is reached without the system's proxy, everything else with it.
//!
//! A key is read from an environment variable and sent as `Authorization: Bearer`. It stands in no error and
//! in no debug output: a server's own words are searched for it before they are repeated.

use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A client for any number of servers.
#[derive(Clone, Debug)]
pub struct Http {
    direct: reqwest::Client,
    proxied: reqwest::Client,
    key: Option<ApiKey>,
}

/// A secret, shown nowhere.
#[derive(Clone)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl ApiKey {
    /// The key in the environment variable `name`.
    ///
    /// # Errors
    /// The variable is not set, empty, or no text that a header can carry.
    pub fn from_environment(name: &str) -> Result<ApiKey, SetupError> {
        let value = std::env::var(name).unwrap_or_default();
        if value.is_empty() || value.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(SetupError::Key { name: name.to_owned() });
        }
        Ok(ApiKey(value))
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// No key where one was promised.
    #[error(
        "the environment variable {name} holds no API key\nhint: set it to the server's key; it is written nowhere"
    )]
    Key {
        /// The variable.
        name: String,
    },
    /// An address that is none.
    #[error("{address} is no server's address: {reason}, expected the form http://host:port")]
    Address {
        /// As it was written, without what may be a secret.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library or the threads do not start.
    #[error("cannot start an HTTP client: {0}")]
    Start(String),
}

/// A server's address, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    text: String,
    is_loopback: bool,
}

impl Address {
    /// Reads `http://host:port` or `https://host/path`.
    ///
    /// # Errors
    /// Another scheme, no host, or a user, password, query or fragment: those may be secrets, and an address
    /// is printed and kept.
    pub fn parse(text: &str) -> Result<Address, SetupError> {
        // What stands before an `@` or behind a `?` may be a secret, and which is which cannot be told where both are.
        let shown = || match (text.rsplit_once('@'), text.split_once(['?', '#'])) {
            (Some(_), Some(_)) => "(an address with an @ and a ?)".to_owned(),
            (Some((_, host)), None) => host.to_owned(),
            (None, Some((address, _))) => address.to_owned(),
            (None, None) => text.to_owned(),
        };
        let refuse = |reason: &str| Err(SetupError::Address { address: shown(), reason: reason.to_owned() });
        let url = match reqwest::Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(&error.to_string()),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("its scheme is neither http nor https");
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return refuse("it has a user, a password, a query or a fragment (a key belongs into the environment)");
        }
        let Some(host) = url.host_str() else { return refuse("it has no host") };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ip = host.parse::<std::net::IpAddr>();
        let is_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
        Ok(Address { text: url.as_str().trim_end_matches('/').to_owned(), is_loopback })
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What went wrong between us and one server.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{endpoint}{route}: {cause}")]
pub struct HttpError {
    /// The server.
    pub endpoint: String,
    /// What was asked of it.
    pub route: String,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// Nobody answers at that address.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection ended before the answer did.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("no whole answer within {} s", .0.as_secs_f64())]
    Deadline(Duration),
    /// More bytes than are kept.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// Another status than 200.
    #[error("status {status}{}{}", said(.body), key_hint(*.status))]
    Status {
        /// The status.
        status: u16,
        /// What the server said, shortened.
        body: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Status 200 and something that cannot be read.
    #[error("the answer is not what was asked for: {reason}; it begins {begins:?}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
        /// Its first characters.
        begins: String,
    },
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The server is full: ask it again later, and less at a time.
    Wait,
    /// Ask again, here or elsewhere.
    Retry,
    /// The server will never answer this: its set-up or the key is wrong.
    Mend,
    /// This request cannot be answered, by any server of the kind.
    Refused,
}

impl Cause {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Cause::Status { status: 429 | 503, .. } => Remedy::Wait,
            Cause::Status { status: 401 | 403 | 404 | 405 | 501, .. } => Remedy::Mend,
            Cause::Status { status: 400 | 413 | 422, .. } => Remedy::Refused,
            _ => Remedy::Retry,
        }
    }

    /// How long the server asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Cause::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn key_hint(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "\nhint: the key `key_env` of the recipe names the environment variable that holds the server's API key"
        }
        _ => "",
    }
}

fn said(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(": {body}") }
}

impl Http {
    /// Bytes of an answer that are kept at most: 16 completions of 32,768 tokens, generously.
    pub const BODY_LIMIT: usize = 256 << 20;

    /// A client that sends `key`, where there is one.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn new(key: Option<ApiKey>) -> Result<Http, SetupError> {
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                // Below the 5 s after which uvicorn, which most of these servers are run by, closes a connection: a
                // question that is sent just then gets no answer.
                .pool_idle_timeout(Duration::from_secs(3))
                .tcp_nodelay(true)
        };
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|e| SetupError::Start(e.to_string()));
        Ok(Http { direct: build(builder().no_proxy())?, proxied: build(builder())?, key })
    }

    /// Asks `route` and reads the JSON of the answer.
    ///
    /// # Errors
    /// See [`Cause`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        at: &Address,
        route: &str,
        deadline: Duration,
    ) -> Result<T, HttpError> {
        let bytes = self.call(Method::GET, at, route, None, deadline).await?;
        self.read(&bytes).map_err(|cause| error(at, route, cause))
    }

    /// Sends `body` to `route` and reads the JSON of the answer.
    ///
    /// # Errors
    /// See [`Cause`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        at: &Address,
        route: &str,
        body: &impl Serialize,
        deadline: Duration,
    ) -> Result<T, HttpError> {
        let unsendable = |e: serde_json::Error| {
            let cause = Cause::Unreadable { reason: format!("the question is no JSON: {e}"), begins: String::new() };
            error(at, route, cause)
        };
        let body = serde_json::to_vec(body).map_err(unsendable)?;
        let bytes = self.send(at, route, body, deadline).await?;
        self.read(&bytes).map_err(|cause| error(at, route, cause))
    }

    /// Sends `body`, which is JSON, to `route` and gives the bytes of the answer.
    ///
    /// # Errors
    /// See [`Cause`], but for [`Cause::Unreadable`].
    pub async fn send(
        &self,
        at: &Address,
        route: &str,
        body: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, HttpError> {
        self.call(Method::POST, at, route, Some(body), deadline).await
    }

    async fn call(
        &self,
        method: Method,
        at: &Address,
        route: &str,
        body: Option<Vec<u8>>,
        deadline: Duration,
    ) -> Result<Vec<u8>, HttpError> {
        let client = if at.is_loopback { &self.direct } else { &self.proxied };
        let mut request = client.request(method, format!("{at}{route}"));
        if let Some(ApiKey(key)) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        match tokio::time::timeout(deadline, self.exchange(request)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(cause)) => Err(error(at, route, cause)),
            Err(_) => Err(error(at, route, Cause::Deadline(deadline))),
        }
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Cause> {
        let mut response = request.send().await.map_err(of_reqwest)?;
        let status = response.status();
        let seconds = |value: &reqwest::header::HeaderValue| value.to_str().ok()?.parse::<u64>().ok();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds).map(Duration::from_secs);
        let announced = response.content_length().unwrap_or(0);
        if announced > Http::BODY_LIMIT as u64 {
            return Err(Cause::TooLong(Http::BODY_LIMIT));
        }
        let mut bytes = Vec::with_capacity(announced as usize);
        while let Some(chunk) = response.chunk().await.map_err(of_reqwest)? {
            if bytes.len() + chunk.len() > Http::BODY_LIMIT {
                return Err(Cause::TooLong(Http::BODY_LIMIT));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status != StatusCode::OK {
            return Err(Cause::Status { status: status.as_u16(), body: self.begins(&bytes), retry_after });
        }
        Ok(bytes)
    }

    /// As [`read`], without the key in what the error repeats.
    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Cause> {
        serde_json::from_slice(bytes)
            .map_err(|e| Cause::Unreadable { reason: e.to_string(), begins: self.begins(bytes) })
    }

    /// The first characters of an answer, in one line, without the key.
    fn begins(&self, bytes: &[u8]) -> String {
        match &self.key {
            // Before it is cut: half a key is a secret, too.
            Some(ApiKey(key)) => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]);
                begins(text.replace(key.as_str(), "(the key)").as_bytes())
            }
            None => begins(bytes),
        }
    }
}

/// Reads the JSON of an answer.
///
/// # Errors
/// [`Cause::Unreadable`].
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Cause> {
    serde_json::from_slice(bytes).map_err(|e| Cause::Unreadable { reason: e.to_string(), begins: begins(bytes) })
}

fn error(at: &Address, route: &str, cause: Cause) -> HttpError {
    HttpError { endpoint: at.to_string(), route: route.to_owned(), cause }
}

/// The innermost reason: the outer ones say only that something failed.
fn of_reqwest(error: reqwest::Error) -> Cause {
    let is_connect = error.is_connect();
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    if is_connect { Cause::Connect(reason.to_string()) } else { Cause::Broken(reason.to_string()) }
}

/// The first characters of an answer, in one line.
fn begins(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(800)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
