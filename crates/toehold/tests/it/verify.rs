//! The verifier for others: JSON lines, a problem file's references, and the reward server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};

use crate::place::Place;

#[track_caller]
fn check(lines: &str, expected: Expect) {
    let place = Place::new();
    place.write("rows.jsonl", lines);
    let ran = place.toehold("verify rows.jsonl");
    expected.assert_eq(&format!("status {}\n{}{}", ran.status, ran.stdout, ran.stderr));
}

#[test]
fn rows_come_back_with_verdicts() {
    check(
        r#"{"gold": "1/2", "prediction": "0.5", "id": 7}

{"gold": "12", "prediction": "I get \\boxed{13}.", "prediction_form": "text", "kind": "number", "equal": false}
{"gold": "x", "prediction": "no idea", "prediction_form": "text", "kind": "number", "equal": true}
"#,
        expect![[r#"
            status 0
            {"equal":true,"extracted":"0.5","gold":"1/2","id":7,"outcome":"equal","prediction":"0.5"}
            {"equal":false,"expected":false,"extracted":"13","gold":"12","kind":"number","outcome":"not_equal","prediction":"I get \\boxed{13}.","prediction_form":"text"}
            {"equal":false,"expected":true,"extracted":null,"gold":"x","kind":"number","outcome":"unparsed_prediction","prediction":"no idea","prediction_form":"text"}
            3 rows: 1 equal, 1 not_equal, 1 unparsed_prediction
            kind    rows  right   share  missed  wrongly accepted
            ─────────────────────────────────────────────────────
            number     2      1  50.0 %       1                 0
            all        2      1  50.0 %       1                 0
        "#]],
    );
}

#[test]
fn a_line_that_is_no_row_ends_it_with_what_came_before_answered() {
    check(
        "{\"gold\": \"1\", \"prediction\": \"1\"}\n{\"gold\": \"1\"}\n",
        expect![[r#"
        status 1
        {"equal":true,"extracted":"1","gold":"1","outcome":"equal","prediction":"1"}
        error: rows.jsonl:2: missing field `prediction`
        hint: a row has at least `gold` and `prediction`, both strings
    "#]],
    );
    check(
        "{\"gold\": \"1\", \"prediction\": \"1\", \"options\": {\"strict\": 3}}\n",
        expect![[r#"
        status 1
        error: rows.jsonl:1: invalid type: integer `3`, expected a boolean
        hint: a row has at least `gold` and `prediction`, both strings
    "#]],
    );
    check(
        "[1]\n",
        expect![[r#"
            status 1
            error: rows.jsonl:1: expected an object, found [1]
        "#]],
    );
    check(
        "",
        expect![[r#"
        status 0
        warning: there are no rows
    "#]],
    );
}

#[test]
fn references_are_checked_before_a_run() {
    let place = Place::new();
    place.write(
        "p.jsonl",
        r#"{"id": "a", "problem": "?", "answer": "1/2", "verifier": "math"}
{"id": "b", "problem": "?", "answer": "\\frac{1}{", "verifier": "math"}
{"id": "c", "problem": "?", "answer": "1", "verifier": "maths"}
"#,
    );
    let ran = place.toehold("verify --check p.jsonl");
    expect![[r#"
        status 1
        p.jsonl:2: problem `b`: the `math` verifier cannot read the reference answer `\frac{1}{`: the gold `\frac{1}{` is neither words nor mathematics that can be read
        p.jsonl:3: problem `c`: unknown verifier `maths`, expected one of answer, exact, number, chain, countdown, math, math_boxed, tolerance, pattern, pattern_text, program, command
        error: 2 of 3 problems have a reference that cannot be read
    "#]].assert_eq(&format!("status {}\n{}{}", ran.status, ran.stdout, ran.stderr));
}

/// Sends one request and gives the status and the body.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    format!("{} {body}\n", head.lines().next().unwrap_or_default())
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn the_reward_server_speaks_three_forms_and_refuses_the_rest() {
    let place = Place::new();
    let mut child = place
        .command("verify --serve 127.0.0.1:0 --body-mib 1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap().split(',').next().unwrap().to_owned();

    let mut text = String::new();
    for request in [
        post("/verify", r#"{"rows": [{"gold": "4", "prediction": "4", "id": 1}, {"gold": "4", "prediction": "5"}]}"#),
        post(
            "/openrlhf",
            r#"{"query": ["2+2? \\boxed{4}", "\\boxed{4} is an example. \\boxed{5}"], "prompts": ["2+2?", "\\boxed{4} is an example."], "labels": ["4", 4]}"#,
        ),
        post(
            "/verl",
            r#"{"data_source": "d", "solution_str": "\\boxed{0.5}", "ground_truth": "1/2", "extra_info": null}"#,
        ),
        post("/verl", r#"[{"solution_str": "\\boxed{0.5}", "ground_truth": 2}]"#),
        post("/verify", "{"),
        post("/openrlhf", r#"{"query": ["a"], "labels": []}"#),
        post("/rewards", ""),
        "GET /verify HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        "POST /verify HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        text += &ask(&address, &request);
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    expect![[r#"
        HTTP/1.1 200 OK {"rows":[{"equal":true,"extracted":"4","gold":"4","id":1,"outcome":"equal","prediction":"4"},{"equal":false,"extracted":"5","gold":"4","outcome":"not_equal","prediction":"5"}]}
        HTTP/1.1 200 OK {"extra_logs":{},"rewards":[1.0,0.0],"scores":[1.0,0.0]}
        HTTP/1.1 200 OK {"acc":true,"outcome":"equal","score":1.0}
        HTTP/1.1 200 OK [{"acc":false,"outcome":"not_equal","score":0.0}]
        HTTP/1.1 400 Bad Request {"error":"the body is not what /verify takes: EOF while parsing an object at line 1 column 1"}
        HTTP/1.1 400 Bad Request {"error":"`query` has 1 entries and `labels` has 0"}
        HTTP/1.1 404 Not Found {"error":"there is no /rewards, only /verify, /openrlhf, /verl, /judge and /health"}
        HTTP/1.1 405 Method Not Allowed {"error":"/verify takes POST, not GET"}
        HTTP/1.1 413 Payload Too Large {"error":"the body is longer than 1048576 bytes"}
        HTTP/1.1 200 OK {"requests":10,"status":"ok","verdicts":6}
        status 0
        10 requests, 6 verdicts
    "#]].assert_eq(&format!("{text}status {}\n{rest}", status.code().unwrap()));
}
