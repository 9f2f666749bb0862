//! A fake server that says what a real one said: exchanges that `interop/skyrl/record.py` wrote down.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One question and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) path: String,
    pub(crate) request: Value,
    /// 0 closes the connection instead of an answer.
    pub(crate) status: u64,
    /// The answer's body.
    pub(crate) answer: String,
}

/// The exchanges of a file of JSON lines.
pub(crate) fn read(text: &str) -> Vec<Exchange> {
    let exchange = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        Exchange {
            path: line["path"].as_str().unwrap().to_owned(),
            request: comparable(line["request"].clone()),
            status: line["status"].as_u64().unwrap(),
            answer: line["answer"].to_string(),
        }
    };
    text.lines().map(exchange).collect()
}

/// Serves each exchange once: to the first question that is its own, in the file's order. Gives the server's
/// address, and what is left to be asked.
pub(crate) fn serve(exchanges: Vec<Exchange>) -> (String, Arc<Mutex<Vec<Exchange>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let left = Arc::new(Mutex::new(exchanges));
    let shared = left.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = shared.clone();
            std::thread::spawn(move || while answer(stream.as_ref().unwrap(), &shared).is_some() {});
        }
    });
    (address, left)
}

/// Answers one question; none when the client has gone.
fn answer(mut stream: &TcpStream, left: &Mutex<Vec<Exchange>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = comparable(serde_json::from_slice(&body).unwrap_or_default());
    let (status, answer) = {
        let mut left = left.lock().unwrap();
        match left.iter().position(|exchange| exchange.path == path && exchange.request == request) {
            Some(at) => {
                let Exchange { status, answer, .. } = left.remove(at);
                (status, answer)
            }
            None => (400, format!("{{\"detail\":\"nobody asked {path} this: {request}\"}}").replace('\\', "")),
        }
    };
    if status == 0 {
        return None;
    }
    write!(stream, "HTTP/1.1 {status} as recorded\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).ok()
}

/// A request without what changes with our version.
fn comparable(mut request: Value) -> Value {
    if let Some(request) = request.as_object_mut() {
        request.remove("sdk_version");
    }
    request
}
