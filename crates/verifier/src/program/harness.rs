//! Function calls: what goes into the sandbox, and how what comes out is read.
//!
//! A call has a channel of its own: the request is read from descriptor 3, the returned value is
//! written to descriptor 4 as one line of JSON with the call's nonce. What a program prints is not
//! looked at. The expected value stays outside, so the best that a program can forge is a value, and a
//! forged value that is right is a right value.
//!
//! The channel must hold exactly one record with the nonce. Silence, a second record, a wrong nonce or
//! anything else beside it is a failure, since a harness that worked leaves none of these.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::program::json::Json;

/// The part that runs inside the sandbox, for Python.
pub(crate) const PYTHON: &str = include_str!("harness.py");

/// What the channel held.
#[derive(Debug)]
pub(crate) enum Returned {
    Value(Json),
    /// The program ended without a record: an exception, an early exit.
    Nothing,
    /// Something, but not exactly one record with the nonce.
    Forged,
}

/// The request for one call, one line of JSON. The nonce comes first.
pub(crate) fn request(nonce: &str, function: &str, arguments: &Json) -> String {
    let function = Json::Text(function.to_owned()).write();
    let arguments = arguments.write();
    format!("{{\"nonce\": \"{nonce}\", \"function\": {function}, \"arguments\": {arguments}}}\n")
}

/// Reads what came out of the channel.
pub(crate) fn read(channel: &[u8], nonce: &str) -> Returned {
    #[derive(Deserialize)]
    struct Record<'a> {
        nonce: String,
        #[serde(borrow)]
        value: &'a RawValue,
    }
    if channel.is_empty() {
        return Returned::Nothing;
    }
    let Ok(text) = str::from_utf8(channel) else { return Returned::Forged };
    match serde_json::from_str::<Record<'_>>(text) {
        Ok(record) if record.nonce == nonce => Json::read(record.value.get()).map_or(Returned::Forged, Returned::Value),
        _ => Returned::Forged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(channel: &str, expected: &str) {
        let found = match read(channel.as_bytes(), "n1") {
            Returned::Value(value) => format!("{value:?}"),
            Returned::Nothing => "nothing".to_owned(),
            Returned::Forged => "forged".to_owned(),
        };
        assert_eq!(found, expected, "{channel}");
    }

    #[test]
    fn one_record_with_the_nonce_counts() {
        check("", "nothing");
        check(
            "{\"nonce\": \"n1\", \"value\": 1267650600228229401496703205377}\n",
            "Number(\"1267650600228229401496703205377\")",
        );
        check("{\"nonce\": \"n1\", \"value\": [1, null]}", "List([Number(\"1\"), Null])");
        check("{\"nonce\": \"n2\", \"value\": 1}\n", "forged");
        check("{\"value\": 1}\n", "forged");
        check("{\"nonce\": \"n1\"}\n", "forged");
        check("PASS\n", "forged");
        check("{\"nonce\": \"n1\", \"value\": 1}\n{\"nonce\": \"n1\", \"value\": 1}\n", "forged");
        check("{\"nonce\": \"n2\", \"value\": 2}\n{\"nonce\": \"n1\", \"value\": 1}\n", "forged");
        check("\u{0}{\"nonce\": \"n1\", \"value\": 1}\n", "forged");
    }

    #[test]
    fn a_name_stays_a_name() {
        let request = request("n1", "f\", \"nonce\": \"", &Json::read("[1]").unwrap());
        let read: serde_json::Value = serde_json::from_str(&request).unwrap();
        assert_eq!(read["nonce"], "n1");
        assert_eq!(read["function"], "f\", \"nonce\": \"");
    }
}
