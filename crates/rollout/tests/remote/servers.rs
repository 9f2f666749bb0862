//! Servers that are the wrong ones, and log-probabilities and texts that cannot be used.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use toehold_rollout::remote::{Expected, Fleet, FleetSettings};
use toehold_rollout::{ConfidenceStop, SampleError, SwitchPenalty, TokenizerFile};

use super::fake::{self, Behaviour, Fake, Fault, Kind, Logprobs};
use super::{expected, requests, runtime, sample, servers, settings, toy};

/// What a fleet of one server says, with the port taken out.
#[track_caller]
fn check_error(behaviour: &Behaviour, change: fn(&mut FleetSettings, &mut Expected), expected_text: Expect) {
    let runtime = runtime();
    let fake = Fake::start(&runtime, behaviour.clone(), toy("w0"));
    let fakes = [fake];
    let (mut settings, mut expected) = (settings(&fakes, behaviour.kind), expected("w0"));
    (settings.tries, settings.patience) = (3, Duration::from_millis(300));
    change(&mut settings, &mut expected);
    let text = match Fleet::connect(settings, expected) {
        Err(error) => error.to_string(),
        Ok(mut fleet) => match sample(&mut fleet, &requests(1, 1)) {
            Ok(_) => "it works".to_owned(),
            Err(SampleError::Other(error)) => error.to_string(),
            Err(error) => error.to_string(),
        },
    };
    let port = fakes[0].address();
    expected_text.assert_eq(&text.replace(&port, "http://SERVER"));
}

#[test]
fn wrong_servers_are_named_with_what_is_wrong() {
    let vllm = Behaviour::new(Kind::Vllm);
    let always = |fault| Behaviour { faults: vec![(fault, 1.0)], ..Behaviour::new(Kind::Vllm) };
    let nothing = |_: &mut FleetSettings, _: &mut Expected| {};
    check_error(&vllm, nothing, expect!["it works"]);
    check_error(
        &vllm,
        |settings, _| settings.model = "qwen".to_owned(),
        expect![[r#"
        http://SERVER serves `m`, expected `qwen`
        hint: sampler.served_model is the name that the server gives its model"#]],
    );
    check_error(
        &vllm,
        |_, expected| expected.probe.tokens = vec![1],
        expect![[r#"
        http://SERVER makes tokens [97, 98] of "ab", expected [1]
        hint: the server has another tokenizer; start it with the run's model folder"#]],
    );
    check_error(
        &vllm,
        |_, expected| expected.probe.current = vec![-1.0; 6],
        expect![[r#"
        http://SERVER serves other weights: its log-probabilities of 6 tokens differ by 0.906 nats on average, expected at most 0.05
        hint: start it with the run's model folder, or let toehold give it the weights (sampler.weights_path)"#]],
    );
    check_error(
        &vllm,
        |_, expected| expected.weights = Some("/nowhere".into()),
        expect![[r#"
        http://SERVER did not load /nowhere: http://SERVER/collective_rpc: status 500: {"error":"No such file or directory (os error 2)"}
        hint: the folder has to be on a disk that the server sees; sampler.weights_seen_at says where, if it is another path there"#]],
    );
    check_error(
        &Behaviour { positions: 18, ..vllm.clone() },
        nothing,
        expect!["request 0 needs 21 positions (prompt 2 + prefix 3 + at most 16 new), but the policy has 18"],
    );
    check_error(
        &Behaviour { key: Some("secret".to_owned()), ..vllm.clone() },
        nothing,
        expect![[r#"
        http://SERVER/v1/models: status 401: {"error":"Incorrect API key provided: "}
        hint: the key `key_env` of the recipe names the environment variable that holds the server's API key"#]],
    );
    check_error(
        &always(Fault::Html),
        nothing,
        expect![[r#"
        none of the fleet's servers can be used:
          http://SERVER/v1/completions: the answer is not what was asked for: expected value at line 1 column 1; it begins "<html> <title>502 Bad Gateway</title></html>""#]],
    );
    check_error(
        &always(Fault::Nan),
        nothing,
        expect![
            "request 0 failed 3 times, the last time: http://SERVER: log-probability NaN of token 0 of a completion, expected a finite number of at most 0"
        ],
    );
    check_error(
        &always(Fault::Fewer),
        nothing,
        expect!["request 0 failed 3 times, the last time: http://SERVER: it gave 0 completions, expected 1"],
    );
    check_error(
        &always(Fault::Token),
        nothing,
        expect![
            "request 0 failed 3 times, the last time: http://SERVER: a completion has token 4000000, but the policy's vocabulary has 1000 tokens"
        ],
    );
    check_error(
        &always(Fault::Longer),
        nothing,
        expect![[r#"
        none of the fleet's servers can be used:
          http://SERVER took the prompt for 6 tokens, expected 5
        hint: the server adds tokens of its own"#]],
    );
    check_error(
        &always(Fault::Refused),
        nothing,
        expect![[
            r#"http://SERVER/v1/completions: status 400: {"error":{"message":"this model's maximum context length is 17 tokens"}}"#
        ]],
    );
    check_error(
        &always(Fault::OtherVersion),
        nothing,
        expect![[
            r#"request 0 failed 3 times, the last time: http://SERVER answered with weights ["another"], expected `default`"#
        ]],
    );
    check_error(
        &always(Fault::Unavailable),
        nothing,
        expect![[r#"
        none of the fleet's servers can be used:
          http://SERVER/v1/completions: status 503: {"error":{"message":"the queue is full"}}"#]],
    );
    check_error(
        &always(Fault::Closed),
        nothing,
        expect![[r#"
        none of the fleet's servers can be used:
          http://SERVER/v1/completions: the connection broke: connection closed before message completed"#]],
    );
}

/// Which temperatures, and top-p 0.5, a server with such log-probabilities may be asked with.
#[track_caller]
fn check_logprobs(kind: Kind, logprobs: Logprobs, expected_text: Expect) {
    let runtime = runtime();
    let fakes = servers(&runtime, 1, &Behaviour { logprobs, ..Behaviour::new(kind) });
    let mut fleet = Fleet::connect(settings(&fakes, kind), expected("w0")).unwrap();
    let mut lines = Vec::new();
    for (temperature, top_p) in [(1.0, 1.0), (0.7, 1.0), (0.7, 0.5)] {
        let mut requests = requests(1, 1);
        (requests[0].params.temperature, requests[0].params.top_p) = (temperature, top_p);
        let said = match sample(&mut fleet, &requests) {
            Ok(_) => "it works".to_owned(),
            Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        lines.push(said.replace(&fakes[0].address(), "http://SERVER"));
    }
    expected_text.assert_eq(&lines.join("\n"));
}

#[test]
fn log_probabilities_of_another_distribution_are_refused() {
    check_logprobs(
        Kind::Vllm,
        Logprobs::Drawn,
        expect![[r#"
        it works
        it works
        it works"#]],
    );
    check_logprobs(
        Kind::Vllm,
        Logprobs::Raw,
        expect![[r#"
        it works
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 1 make another than the model's own
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 0.5 make another than the model's own"#]],
    );
    check_logprobs(
        Kind::Sglang,
        Logprobs::Tempered,
        expect![[r#"
        it works
        it works
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 0.5 make another than the model's own"#]],
    );
}

#[test]
fn a_model_that_is_certain_does_not_hide_which_log_probabilities_a_server_gives() {
    check_logprobs(
        Kind::Vllm,
        Logprobs::RawOfCertain,
        expect![[r#"
        it works
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 1 make another than the model's own
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 0.5 make another than the model's own"#]],
    );
    check_logprobs(
        Kind::Vllm,
        Logprobs::TemperedOfCertain,
        expect![[r#"
        it works
        it works
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 0.5 make another than the model's own"#]],
    );
    check_logprobs(
        Kind::Sglang,
        Logprobs::TemperedOfCertain,
        expect![[r#"
        it works
        it works
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 0.5 make another than the model's own"#]],
    );
    // This one cannot be told.
    check_logprobs(
        Kind::Sglang,
        Logprobs::RawOfCertain,
        expect![[r#"
        it works
        request 0: http://SERVER gives log-probabilities of which it cannot be told whether they are of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 1 make another than the model's own
        request 0: http://SERVER gives log-probabilities of which it cannot be told whether they are of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 0.5 make another than the model's own"#]],
    );
}

#[test]
fn what_no_server_can_do_is_refused() {
    let stop = expect![[r#"
        request 1: it asks for a stop at low confidence, which vLLM, SGLang and servers of OpenAI's form have no parameter for (a `logit_bias` holds for a whole completion)
        hint: the policy in this process can, without [sampler]"#]];
    let switch = expect![[r#"
        request 0: it asks for a penalty on switching thoughts, which vLLM, SGLang and servers of OpenAI's form have no parameter for (a `logit_bias` holds for a whole completion)
        hint: the policy in this process can, without [sampler]"#]];
    let runtime = runtime();
    for kind in [Kind::Vllm, Kind::Sglang] {
        let fakes = servers(&runtime, 1, &Behaviour::new(kind));
        let mut fleet = Fleet::connect(settings(&fakes, kind), expected("w0")).unwrap();
        let mut requests = requests(1, 2);
        requests[1].params.stop_below = Some(ConfidenceStop { window: 4, below: -1.0 });
        stop.assert_eq(&sample(&mut fleet, &requests).unwrap_err().to_string());
        requests[0].params.thought_switch = Some(SwitchPenalty { tokens: vec![7], penalty: 3.0, window: 600 });
        switch.assert_eq(&sample(&mut fleet, &requests).unwrap_err().to_string());
    }
}

#[test]
fn text_is_made_tokens_and_what_does_not_come_back_is_refused() {
    /// Writes texts that its tokenizer reads back, and now and then one that it does not.
    struct Texts(TokenizerFile);
    impl fake::Model for Texts {
        fn complete(&self, asked: &fake::Asked) -> fake::Written {
            let tokens = self.0.encode("1 + 2 = 3").unwrap();
            let tokens: Vec<u32> = tokens.into_iter().take(asked.max_tokens).collect();
            let behavior = vec![-0.5; tokens.len()];
            (tokens, behavior, false)
        }
        fn score(&self, _: &[u32]) -> Vec<f32> {
            Vec::new()
        }
        fn load(&self, _: &str) -> Result<(), String> {
            Err("no such route".to_owned())
        }
        fn tokens_of(&self, text: &str) -> Vec<u32> {
            self.0.encode(text).unwrap()
        }
        fn text_of(&self, tokens: &[u32]) -> String {
            self.0.decode(tokens)
        }
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/qwen3-tiny");
    let tokenizer = TokenizerFile::open(Path::new(folder)).unwrap();
    let length = tokenizer.encode("1 + 2 = 3").unwrap().len() as u32;
    let runtime = runtime();
    let faults = vec![(Fault::Fewer, 0.3), (Fault::Nan, 0.3)];
    let behaviour = Behaviour { faults, ..Behaviour::new(Kind::Openai) };
    let fakes = [Fake::start(&runtime, behaviour, Arc::new(Texts(tokenizer.clone())))];
    let text = Some(Arc::new(tokenizer.clone()));
    let settings = FleetSettings { text, ..settings(&fakes, Kind::Openai) };
    let mut fleet = Fleet::connect(settings.clone(), expected("w0")).unwrap();
    let mut requests = requests(4, 2);
    requests.iter_mut().for_each(|request| request.params.max_tokens = length);
    let completions = sample(&mut fleet, &requests).unwrap();
    assert_eq!(completions.len(), 8);
    assert!(completions.values().all(|completion| tokenizer.decode(&completion.tokens) == "1 + 2 = 3"));
    // A fleet that asks for tokens and gets text says so.
    let mut fleet = Fleet::connect(FleetSettings { text: None, tries: 3, ..settings }, expected("w0")).unwrap();
    let error = sample(&mut fleet, &requests[..1]).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("has text and no token ids"), "{:?}", error.source());
}
