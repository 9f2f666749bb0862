//! The client of the Tinker API against what a real server said (SkyRL 0.3.0, jax, on a processor), and
//! against what a server says on a bad day.
//!
//! The recording is made again by `interop/skyrl/record.py`, as the example `tinker` says.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

#[path = "tinker/exchange.rs"]
mod exchange;
#[path = "tinker/replay.rs"]
mod replay;

use std::time::Duration;

use expect_test::{Expect, expect};
use replay::Exchange;
use toehold_rollout::remote::tinker::{Tinker, TinkerError};

const SKYRL: &str = include_str!("tinker/skyrl-0.3.0.jsonl");

#[test]
fn a_models_life_is_what_the_server_said() {
    let (address, left) = replay::serve(replay::read(SKYRL));
    let dir = tempfile::tempdir().unwrap();
    let said = exchange::live(&address, "base", dir.path()).unwrap();
    expect![[r#"
        reduction Reduction { targets: Mean, data: Mean }
        request 1: it asks for a stop at low confidence, which the Tinker API has no parameter for
        12 tokens, end_of_text: behavior -5.721, current -5.721
        12 tokens, end_of_text: behavior -5.464, current -5.464
        12 tokens, end_of_text: behavior -5.070, current -5.070
        12 tokens, end_of_text: behavior -5.802, current -5.802
        gradient 0.2904
        another version: true
        moved by +0.516
        moved by +0.112
        moved by -0.846
        moved by -0.028
        restored as it was: true
        under another version: true
        12 tokens by the restored
    "#]]
    .assert_eq(&said);
    let left: Vec<String> = left.lock().unwrap().iter().map(|exchange| exchange.path.clone()).collect();
    assert_eq!(left, [""; 0], "said by the server and asked by nobody");
}

/// Connects to the server after `change` was made to what it says, and gives the error.
#[track_caller]
fn check(change: impl Fn(&mut Vec<Exchange>), expected: Expect) {
    let mut exchanges = replay::read(SKYRL);
    change(&mut exchanges);
    let (address, _) = replay::serve(exchanges);
    let mut options = exchange::options(&address, "base");
    options.patience = Duration::from_secs(1);
    let error: TinkerError = Tinker::connect(options).unwrap_err();
    expected.assert_eq(&error.to_string().replace(&address, "http://server"));
}

fn change(route: &'static str, to: impl Fn(&mut Exchange)) -> impl Fn(&mut Vec<Exchange>) {
    move |exchanges| to(exchanges.iter_mut().find(|exchange| exchange.path.ends_with(route)).unwrap())
}

#[test]
fn a_server_with_another_model() {
    let other = |exchange: &mut Exchange| exchange.answer = exchange.answer.replace("base", "Qwen/Qwen3-8B");
    check(
        change("get_server_capabilities", other),
        expect![[r#"
        http://server serves "Qwen/Qwen3-8B", expected "base"
        hint: set learner.base_model to the server's name"#]],
    );
}

#[test]
fn an_answer_that_is_no_json() {
    check(
        change("create_session", |e| e.answer = "<html>hello</html>".into()),
        expect![[
            r#"http://server/api/v1/create_session: the answer is not what was asked for: expected value at line 1 column 1; it begins "<html>hello</html>""#
        ]],
    );
}

#[test]
fn an_answer_without_what_was_asked_for() {
    check(
        change("create_session", |e| e.answer = "{}".into()),
        expect!["http://server/api/v1/create_session: it has no `session_id`"],
    );
}

#[test]
fn a_server_that_refuses() {
    check(
        change("create_model", |e| (e.status, e.answer) = (404, "{\"detail\":\"Session not found\"}".into())),
        expect![[r#"http://server/api/v1/create_model: status 404: {"detail":"Session not found"}"#]],
    );
}

#[test]
fn a_call_that_failed_on_the_server() {
    check(
        change("retrieve_future", |e| (e.status, e.answer) = (400, "{\"detail\":\"out of adapters\"}".into())),
        expect![[r#"http://server/api/v1/create_model: status 400: {"detail":"out of adapters"}"#]],
    );
}

#[test]
fn a_future_that_never_resolves() {
    let never = |exchanges: &mut Vec<Exchange>| {
        let at = exchanges.iter().position(|exchange| exchange.path.ends_with("retrieve_future")).unwrap();
        let again = Exchange { answer: "{\"type\":\"try_again\"}".into(), ..exchanges[at].clone() };
        exchanges.splice(at..at, vec![again; 50]);
    };
    check(
        never,
        expect![[r#"
        http://server/api/v1/create_model: no result within 1 s
        hint: raise learner.patience_s, or look at the server's log"#]],
    );
}

/// The first answer that has log-probabilities, with `to` instead of its first number.
fn first_log_probability(to: &'static str) -> impl Fn(&mut Vec<Exchange>) {
    move |exchanges| {
        let scored =
            exchanges.iter_mut().find(|exchange| exchange.answer.contains("\"logprobs\":{\"data\":[")).unwrap();
        let (before, after) = scored.answer.split_once("\"logprobs\":{\"data\":[").unwrap();
        let (_, after) = after.split_once(',').unwrap();
        scored.answer = format!("{before}\"logprobs\":{{\"data\":[{to}{after}");
    }
}

#[test]
fn a_log_probability_that_is_none() {
    check(
        first_log_probability("null,"),
        expect!["http://server/api/v1/forward: the answer cannot be read: invalid type: null, expected f32"],
    );
}

#[test]
fn a_log_probability_too_few() {
    check(
        first_log_probability(""),
        expect!["http://server/api/v1/forward: trace 0 came back with 7 log-probabilities, expected 8"],
    );
}

/// A future may say "not yet" by a status or by its answer, any number of times.
#[test]
fn a_server_that_is_slow_is_waited_for() {
    let mut exchanges = replay::read(SKYRL);
    let at = exchanges.iter().position(|exchange| exchange.path.ends_with("retrieve_future")).unwrap();
    let not_yet = |status, answer: &str| Exchange { status, answer: answer.into(), ..exchanges[at].clone() };
    let again = [not_yet(408, "{}"), not_yet(200, "{\"type\":\"try_again\"}"), not_yet(503, "busy")];
    exchanges.splice(at..at, again);
    let (address, _) = replay::serve(exchanges);
    assert!(Tinker::connect(exchange::options(&address, "base")).is_ok());
}

/// Connections break; what changes nothing is asked again.
#[test]
fn sampling_and_scoring_outlive_a_broken_connection() {
    let mut exchanges = replay::read(SKYRL);
    for route in ["/asample", "/forward"] {
        let at = exchanges.iter().position(|exchange| exchange.path.ends_with(route)).unwrap();
        let broken = Exchange { status: 0, ..exchanges[at].clone() };
        exchanges.splice(at..at, vec![broken; 2]);
    }
    let (address, left) = replay::serve(exchanges);
    let dir = tempfile::tempdir().unwrap();
    assert!(exchange::live(&address, "base", dir.path()).is_ok());
    assert_eq!(left.lock().unwrap().len(), 0, "asked as often as it broke");
}

/// Whether the weights have moved nobody can say.
#[test]
fn a_step_is_not_sent_twice() {
    check(
        change("optim_step", |e| e.status = 0),
        expect!["http://server/api/v1/optim_step: the connection broke: connection closed before message completed"],
    );
}
