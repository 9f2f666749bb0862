//! A fleet against servers that do everything wrong: every request is answered once, or the error says who did
//! what.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod fake;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use fake::toy::{Toy, VOCABULARY, scores};
use fake::{Behaviour, Fake, Fault, Kind};
use toehold_rollout::remote::http::Address;
use toehold_rollout::remote::{Engine, Expected, Fleet, FleetError, FleetSettings, Probe, WeightFolders};
use toehold_rollout::{Completion, PolicyVersion, SampleError, SampleRequest, Sampler, SamplingParams, TokenizerFile};
use tokio::runtime::Runtime;

const LENGTH: usize = 12;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn toy(weights: &str) -> Arc<Toy> {
    Arc::new(Toy::new(weights, LENGTH))
}

fn servers(runtime: &Runtime, count: usize, behaviour: &Behaviour) -> Vec<Fake> {
    let server = |seed| Fake::start(runtime, Behaviour { seed, ..behaviour.clone() }, toy("w0"));
    (0..count as u64).map(server).collect()
}

fn settings(fakes: &[Fake], kind: Kind) -> FleetSettings {
    FleetSettings {
        engine: match kind {
            Kind::Vllm => Engine::Vllm,
            Kind::Sglang => Engine::Sglang,
            Kind::Openai => Engine::Openai,
        },
        endpoints: fakes.iter().map(|fake| Address::parse(&fake.address()).unwrap()).collect(),
        model: "m".to_owned(),
        key: None,
        in_flight: 16,
        choices: 1,
        deadline: Duration::from_secs(20),
        patience: Duration::from_secs(1),
        tries: 20,
        hedge: 3.0,
        hedge_at_least: Duration::from_millis(100),
        tolerance: 0.05,
        text: None,
        interrupted: || false,
    }
}

fn expected(weights: &str) -> Expected {
    let (prompt, completion) = (vec![5, 6], vec![7, 8, 9, 10, 11, 12]);
    let all: Vec<u32> = prompt.iter().chain(&completion).copied().collect();
    let probe = Probe {
        text: "ab".to_owned(),
        tokens: vec![97, 98],
        current: scores(weights, &all)[1..].to_vec(),
        prompt,
        completion,
    };
    let version = PolicyVersion { weights: weights.to_owned() };
    Expected { version, vocabulary: VOCABULARY as usize, probe, weights: None }
}

/// `group` requests from each of `starts` starts.
fn requests(starts: u32, group: u64) -> Vec<SampleRequest> {
    let params = SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, max_tokens: 16, stop: vec![0] };
    let of_start = |start: u32| {
        let (prompt, prefix): (Arc<[u32]>, Arc<[u32]>) = ([100, start + 1].into(), [7, 8, 9].into());
        let params = params.clone();
        (0..group).map(move |index| SampleRequest {
            prompt: prompt.clone(),
            prefix: prefix.clone(),
            params: params.clone(),
            seed: (u64::from(start) << 32 | index) << 2,
        })
    };
    (0..starts).flat_map(of_start).collect()
}

/// The completions by request; panics where one comes twice.
fn sample(fleet: &mut Fleet, requests: &[SampleRequest]) -> Result<BTreeMap<usize, Completion>, SampleError> {
    let mut completions = BTreeMap::new();
    fleet.sample(requests, &mut |at, completion| {
        assert!(completions.insert(at, completion).is_none(), "request {at} was answered twice");
        ControlFlow::Continue(())
    })?;
    Ok(completions)
}

/// Every request has the completion that its own tokens and seed give.
#[track_caller]
fn assert_all_right(requests: &[SampleRequest], completions: &BTreeMap<usize, Completion>) {
    assert_eq!(completions.len(), requests.len());
    for (request, (at, completion)) in requests.iter().zip(completions) {
        let tokens: Vec<u32> = request.prompt.iter().chain(request.prefix.iter()).copied().collect();
        let (tokens, behavior, _) = toy("").written(&tokens, (request.seed >> 2) as i64, 16);
        assert_eq!((&completion.tokens, &completion.behavior), (&tokens, &behavior), "request {at}");
    }
}

/// Two servers of which each does `fault` with three of ten requests.
#[track_caller]
fn check_fault(kind: Kind, fault: Fault, expected_counts: Expect) {
    let runtime = runtime();
    let behaviour = Behaviour { faults: vec![(fault, 0.3)], ..Behaviour::new(kind) };
    let fakes = servers(&runtime, 2, &behaviour);
    let mut fleet = Fleet::connect(settings(&fakes, kind), expected("w0")).unwrap();
    let requests = requests(20, 4);
    let completions = sample(&mut fleet, &requests).unwrap();
    assert_all_right(&requests, &completions);
    let reports = fleet.take_report();
    let kept: u64 = reports.iter().map(|report| report.counts.completions).sum();
    assert_eq!(kept, 80, "{reports:?}");
    let mut kinds: Vec<&String> = Vec::new();
    for report in &reports {
        kinds.extend(report.counts.failures.keys().chain(report.counts.refused.keys()));
    }
    kinds.sort();
    kinds.dedup();
    expected_counts.assert_eq(&format!("{kinds:?}"));
}

#[test]
fn what_servers_do_wrong_is_asked_again() {
    check_fault(Kind::Vllm, Fault::TooMany, expect![[r#"["status 429"]"#]]);
    check_fault(Kind::Vllm, Fault::Internal, expect![[r#"["status 500"]"#]]);
    check_fault(Kind::Vllm, Fault::Unavailable, expect![[r#"["status 503"]"#]]);
    check_fault(Kind::Vllm, Fault::Closed, expect![[r#"["broken connection"]"#]]);
    check_fault(Kind::Vllm, Fault::Half, expect![[r#"["broken connection"]"#]]);
    check_fault(Kind::Vllm, Fault::Fewer, expect![[r#"["fewer choices"]"#]]);
    check_fault(Kind::Vllm, Fault::Nan, expect![[r#"["Number"]"#]]);
    check_fault(Kind::Vllm, Fault::OtherVersion, expect![[r#"["other version"]"#]]);
    check_fault(Kind::Vllm, Fault::Html, expect![[r#"["unreadable"]"#]]);
    check_fault(Kind::Vllm, Fault::Reversed, expect!["[]"]);
    check_fault(Kind::Vllm, Fault::Twice, expect![[r#"["numbering"]"#]]);
    check_fault(Kind::Vllm, Fault::Token, expect![[r#"["UnknownToken"]"#]]);
    check_fault(Kind::Sglang, Fault::Half, expect![[r#"["broken connection"]"#]]);
    check_fault(Kind::Sglang, Fault::Nan, expect![[r#"["Number"]"#]]);
    check_fault(Kind::Sglang, Fault::OtherVersion, expect![[r#"["other version"]"#]]);
    check_fault(Kind::Sglang, Fault::Twice, expect![[r#"["numbering"]"#]]);
}

#[test]
fn slow_and_silent_servers_are_asked_elsewhere() {
    for fault in [Fault::Slow, Fault::Never] {
        let runtime = runtime();
        let mut fakes = servers(&runtime, 1, &Behaviour { faults: vec![(fault, 0.2)], ..Behaviour::new(Kind::Vllm) });
        fakes.extend(servers(&runtime, 1, &Behaviour::new(Kind::Vllm)));
        let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected("w0")).unwrap();
        let requests = requests(20, 4);
        assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
        let hedges: u64 = fleet.take_report().iter().map(|report| report.counts.hedges).sum();
        assert!(hedges > 0, "{fault:?}");
    }
}

#[test]
fn a_group_is_one_request_whose_choices_may_come_in_any_order_and_number() {
    let runtime = runtime();
    let faults = vec![(Fault::Reversed, 0.3), (Fault::Fewer, 0.2), (Fault::Nan, 0.2)];
    let fakes = servers(&runtime, 2, &Behaviour { faults, ..Behaviour::new(Kind::Vllm) });
    let mut fleet =
        Fleet::connect(FleetSettings { choices: 4, ..settings(&fakes, Kind::Vllm) }, expected("w0")).unwrap();
    let requests = requests(30, 4);
    let completions = sample(&mut fleet, &requests).unwrap();
    assert_eq!(completions.len(), 120);
    // Seeds of a group follow each other, and the server adds the number of the choice: what is refused and asked
    // again alone gets the same seed.
    assert_all_right(&requests, &completions);
    let sent: u64 = fleet.take_report().iter().map(|report| report.counts.requests).sum();
    assert!((30..120).contains(&sent), "{sent} requests for 30 groups");
}

#[test]
fn endpoints_die_and_come_back() {
    let runtime = runtime();
    let behaviour = Behaviour { per_token: Duration::from_micros(200), ..Behaviour::new(Kind::Sglang) };
    let fakes = servers(&runtime, 3, &behaviour);
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Sglang), expected("w0")).unwrap();
    let requests = requests(150, 4);
    let mut completions = BTreeMap::new();
    fleet
        .sample(&requests, &mut |at, completion| {
            assert!(completions.insert(at, completion).is_none());
            match completions.len() {
                50 => fakes[0].die(),
                100 => fakes[1].die(),
                200 => fakes[0].come_back(),
                250 => fakes[2].die(),
                350 => fakes[1].come_back(),
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_all_right(&requests, &completions);
    let downs: Vec<bool> = fleet.take_report().iter().map(|report| report.counts.downs > 0).collect();
    assert_eq!(downs, [true, true, true]);
}

#[test]
fn a_group_stays_with_one_endpoint() {
    let runtime = runtime();
    let fakes =
        servers(&runtime, 4, &Behaviour { per_token: Duration::from_micros(100), ..Behaviour::new(Kind::Vllm) });
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected("w0")).unwrap();
    let requests = requests(100, 8);
    // Twice: the second call finds the caches of the first.
    for _ in 0..2 {
        sample(&mut fleet, &requests).unwrap();
    }
    let mut by_start: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for fake in &fakes {
        assert!(fake.seen().completions.load(std::sync::atomic::Ordering::SeqCst) > 200, "all of them work");
        for (&start, &count) in fake.seen().by_start.lock().unwrap().iter() {
            by_start.entry(start).or_default().push(count);
        }
    }
    let most: u64 = by_start.values().map(|counts| counts.iter().max().unwrap()).sum();
    assert!(most * 10 >= 1600 * 9, "{most} of 1600 at their group's endpoint");
}

#[test]
fn stopping_is_no_error_and_leaves_the_fleet_usable() {
    let runtime = runtime();
    let fakes = servers(&runtime, 2, &Behaviour { faults: vec![(Fault::Never, 0.05)], ..Behaviour::new(Kind::Vllm) });
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected("w0")).unwrap();
    let requests = requests(40, 4);
    let mut heard = 0;
    fleet
        .sample(&requests, &mut |_, _| {
            heard += 1;
            if heard == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(heard, 10);
    assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
    let mut fleet =
        Fleet::connect(FleetSettings { interrupted: || true, ..settings(&fakes, Kind::Vllm) }, expected("w0"));
    assert!(matches!(fleet.as_mut().map(|_| ()), Err(FleetError::Interrupted)));
}

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

/// The folders that a fleet reads weights from, and what the servers were asked to do.
#[track_caller]
fn check_weights(kind: Kind, expected_changes: Expect) {
    let runtime = runtime();
    let fakes = servers(&runtime, 2, &Behaviour::new(kind));
    let place = tempfile::tempdir().unwrap();
    let folders = WeightFolders::new(place.path().to_owned(), place.path().to_owned());
    let give = |weights: &str| {
        let write = |folder: &Path| std::fs::write(folder.join("weights"), weights);
        let version = PolicyVersion { weights: weights.to_owned() };
        Expected { weights: Some(folders.put(&version, write).unwrap()), ..expected(weights) }
    };
    let mut fleet = Fleet::connect(settings(&fakes, kind), give("w0")).unwrap();
    let requests = requests(10, 2);
    for step in 0..3 {
        let weights = format!("w{step}");
        fleet.load(give(&weights)).unwrap();
        folders.keep_only(&fleet.version()).unwrap();
        assert_eq!((fakes[0].version(), fakes[1].version()), (weights.clone(), weights));
        assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
    }
    let changes = fakes[0].seen().changes.lock().unwrap().join("\n");
    // A server that was away comes back with its first weights, and is given the newest before it is asked.
    fakes[0].die();
    fakes[0].come_back();
    sample(&mut fleet, &requests).unwrap();
    fleet.load(give("w2")).unwrap();
    assert_eq!(fakes[0].version(), "w2");
    let mut kept: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    kept.sort();
    expected_changes.assert_eq(&format!("{changes}\nkept {kept:?}"));
}

#[test]
fn weights_are_handed_over_and_confirmed() {
    check_weights(
        Kind::Vllm,
        expect![[r#"
        /pause?mode=keep
        /collective_rpc reload_weights weights-w0
        /reset_prefix_cache
        /resume
        /pause?mode=keep
        /collective_rpc reload_weights weights-w1
        /reset_prefix_cache
        /resume
        /pause?mode=keep
        /collective_rpc reload_weights weights-w2
        /reset_prefix_cache
        /resume
        kept ["weights-w2"]"#]],
    );
    check_weights(
        Kind::Sglang,
        expect![[r#"
        /update_weights_from_disk weights-w0
        /update_weights_from_disk weights-w1
        /update_weights_from_disk weights-w2
        kept ["weights-w2"]"#]],
    );
}

#[test]
fn servers_that_keep_their_old_weights_are_found_out() {
    struct Stubborn(Toy);
    impl fake::Model for Stubborn {
        fn complete(&self, asked: &fake::Asked) -> fake::Written {
            self.0.complete(asked)
        }
        fn score(&self, tokens: &[u32]) -> Vec<f32> {
            self.0.score(tokens)
        }
        fn load(&self, _: &str) -> Result<(), String> {
            Ok(())
        }
        fn tokens_of(&self, text: &str) -> Vec<u32> {
            self.0.tokens_of(text)
        }
        fn text_of(&self, tokens: &[u32]) -> String {
            self.0.text_of(tokens)
        }
    }
    let runtime = runtime();
    let behaviour = Behaviour { version: "w0".to_owned(), ..Behaviour::new(Kind::Vllm) };
    let fakes = [Fake::start(&runtime, behaviour, Arc::new(Stubborn(Toy::new("w0", LENGTH))))];
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected("w0")).unwrap();
    // So little has changed that the log-probabilities do not tell: the checksum does.
    let version = PolicyVersion { weights: "w1".to_owned() };
    let error = fleet.load(Expected { version, weights: Some("/w1".into()), ..expected("w0") }).unwrap_err();
    expect![[r#"
        http://SERVER did not load /w1: its checksum is what it was before
        hint: the folder has to be on a disk that the server sees; sampler.weights_seen_at says where, if it is another path there"#]].assert_eq(&error.to_string().replace(&fakes[0].address(), "http://SERVER"));
}

#[test]
fn log_probabilities_of_another_distribution_are_refused() {
    let runtime = runtime();
    let fakes = servers(&runtime, 1, &Behaviour { processed: false, ..Behaviour::new(Kind::Vllm) });
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected("w0")).unwrap();
    let mut requests = requests(1, 1);
    sample(&mut fleet, &requests).unwrap();
    requests[0].params.temperature = 0.7;
    let error = sample(&mut fleet, &requests).unwrap_err().to_string();
    expect![[r#"
        request 0: http://SERVER does not give the log-probabilities of the distribution that it draws from, which temperature 0.7, top-k 0 and top-p 1 make another than the model's own
        hint: start vLLM with --logprobs-mode processed_logprobs, or sample at temperature 1 with all tokens"#]].assert_eq(&error.replace(&fakes[0].address(), "http://SERVER"));
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
