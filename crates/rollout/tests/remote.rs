//! A fleet against servers that do everything wrong: every request is answered once, or the error says who did
//! what.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "remote/adapters.rs"]
mod adapters;
mod fake;
#[path = "remote/servers.rs"]
mod servers_checked;
#[path = "remote/weights.rs"]
mod weights;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use fake::toy::{Toy, VOCABULARY, scores};
use fake::{Behaviour, Fake, Fault, Kind};
use toehold_rollout::remote::http::Address;
use toehold_rollout::remote::{Engine, Expected, Fleet, FleetError, FleetSettings, Given, Probe};
use toehold_rollout::{Completion, PolicyVersion, SampleError, SampleRequest, Sampler, SamplingParams};
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
        given: Given::Model,
        key: None,
        in_flight: 16,
        choices: 1,
        deadline: Duration::from_secs(60),
        patience: Duration::from_secs(60),
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
    let params = SamplingParams { stop: vec![0], ..SamplingParams::plain(16) };
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
        // A slow answer is awaited where a second is no more than usual, as on a busy machine; no answer never is.
        let hedges: u64 = fleet.take_report().iter().map(|report| report.counts.hedges).sum();
        assert!(hedges > 0 || fault == Fault::Slow, "{fault:?}");
    }
}

#[test]
fn nothing_is_hedged_before_a_first_latency_is_known() {
    let runtime = runtime();
    let behaviour = Behaviour { per_token: Duration::from_millis(10), ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, 2, &behaviour);
    // Once there is an answer, nothing is a million times as slow.
    let settings = FleetSettings { hedge: 1e6, hedge_at_least: Duration::ZERO, ..settings(&fakes, Kind::Vllm) };
    let mut fleet = Fleet::connect(settings, expected("w0")).unwrap();
    let requests = requests(2, 2);
    assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
    let counts: Vec<(u64, u64)> =
        fleet.take_report().iter().map(|report| (report.counts.hedges, report.counts.late)).collect();
    assert_eq!(counts, [(0, 0), (0, 0)]);
}

#[test]
fn a_group_is_one_request_whose_choices_may_come_in_any_order_and_number() {
    let runtime = runtime();
    let faults = vec![(Fault::Reversed, 0.3), (Fault::Fewer, 0.2), (Fault::Nan, 0.2)];
    let fakes = servers(&runtime, 2, &Behaviour { faults, ..Behaviour::new(Kind::Vllm) });
    // No hedges, of which a busy machine has more.
    let settings = FleetSettings { choices: 4, hedge: 0.0, ..settings(&fakes, Kind::Vllm) };
    let mut fleet = Fleet::connect(settings, expected("w0")).unwrap();
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
fn a_choice_that_is_asked_again_gets_no_seed_of_another_request() {
    let runtime = runtime();
    let behaviour = Behaviour { faults: vec![(Fault::Gaps, 1.0)], ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, 2, &behaviour);
    let settings = FleetSettings { choices: 5, ..settings(&fakes, Kind::Vllm) };
    let mut fleet = Fleet::connect(settings, expected("w0")).unwrap();
    let mut requests = requests(8, 5);
    for (at, request) in requests.iter_mut().enumerate() {
        request.seed = fake::toy::mixed(at as u64);
    }
    let completions = sample(&mut fleet, &requests).unwrap();
    assert_eq!(completions.len(), 40);
    for (group, asked) in requests.chunks(5).enumerate() {
        let tokens: Vec<u32> = asked[0].prompt.iter().chain(asked[0].prefix.iter()).copied().collect();
        let written = |seed: i64| toy("").written(&tokens, seed, 16).0;
        let wire = |at: usize| (asked[at].seed >> 2) as i64;
        // The first, third and fifth choice were refused once, and asked again with their own seeds.
        let right = [wire(0), wire(0) + 1, wire(2), wire(0) + 3, wire(4)].map(written);
        let found: Vec<&Vec<u32>> = (0..5).map(|at| &completions[&(group * 5 + at)].tokens).collect();
        assert_eq!(found, right.iter().collect::<Vec<_>>(), "group {group}");
    }
    // Asking for the rest one by one is no failure of anything: each group failed once in three choices.
    let reports = fleet.take_report();
    let refused: u64 = reports.iter().flat_map(|report| report.counts.refused.values()).sum();
    let failed: u64 = reports.iter().flat_map(|report| report.counts.failures.values()).sum();
    assert_eq!((refused, failed), (24, 0));
}

#[test]
fn endpoints_die_and_come_back() {
    let runtime = runtime();
    // Answers wait for this test to have heard the earlier ones, so that no server is done before another one dies.
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let behaviour = Behaviour { gate: Some(gate.clone()), ..Behaviour::new(Kind::Sglang) };
    let fakes = servers(&runtime, 3, &behaviour);
    let settings = FleetSettings { hedge: 0.0, ..settings(&fakes, Kind::Sglang) };
    let mut fleet = Fleet::connect(settings, expected("w0")).unwrap();
    let requests = requests(100, 4);
    let mut sample_and = |happens: &dyn Fn()| {
        let mut completions = BTreeMap::new();
        gate.forget_permits(usize::MAX);
        gate.add_permits(60);
        fleet
            .sample(&requests, &mut |at, completion| {
                assert!(completions.insert(at, completion).is_none());
                if completions.len() == 50 {
                    happens();
                    gate.add_permits(10_000);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_all_right(&requests, &completions);
        fleet.take_report().iter().map(|report| report.counts.downs > 0).collect::<Vec<bool>>()
    };
    assert_eq!(sample_and(&|| fakes[0].die()), [true, false, false]);
    // Nobody else is left, so the rest is answered by the one that came back.
    let only_the_first_is_left = || {
        fakes[1].die();
        fakes[2].die();
        fakes[0].come_back();
    };
    assert_eq!(sample_and(&only_the_first_is_left)[1..], [true, true]);
}

#[test]
fn a_check_that_outlasts_patience_is_heard() {
    let runtime = runtime();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let behaviour = Behaviour { gate: Some(gate.clone()), ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, 1, &behaviour);
    let patience = Duration::from_millis(500);
    let settings = FleetSettings { patience, ..settings(&fakes, Kind::Vllm) };
    let mut fleet = Fleet::connect(settings, expected("w0")).unwrap();
    let requests = requests(10, 2);
    let mut completions = BTreeMap::new();
    gate.add_permits(10);
    fleet
        .sample(&requests, &mut |at, completion| {
            assert!(completions.insert(at, completion).is_none());
            if completions.len() == 5 {
                fakes[0].die();
                fakes[0].check_takes(3 * patience);
                fakes[0].come_back();
                gate.add_permits(1000);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_all_right(&requests, &completions);
    // And where nobody comes back, there is an end.
    fakes[0].die();
    let error = sample(&mut fleet, &requests).unwrap_err();
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(said.starts_with("no server answered for 0 s:") && said.contains("cannot connect"), "{said}");
}

#[test]
fn a_group_stays_with_one_endpoint() {
    let runtime = runtime();
    let fakes = servers(&runtime, 4, &Behaviour::new(Kind::Vllm));
    let settings = FleetSettings { hedge: 0.0, ..settings(&fakes, Kind::Vllm) };
    // As many groups as servers, and as many requests as a new fleet gives each: all of them are sent at once, so what
    // goes where does not depend on how fast they are answered.
    for round in 0..20 {
        let mut fleet = Fleet::connect(settings.clone(), expected("w0")).unwrap();
        sample(&mut fleet, &requests(4 * (round + 1), 8).split_off(4 * 8 * round as usize)).unwrap();
    }
    let mut by_start: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for fake in &fakes {
        for (&start, &count) in fake.seen().by_start.lock().unwrap().iter() {
            by_start.entry(start).or_default().push(count);
        }
    }
    let (groups, others): (Vec<_>, Vec<_>) = by_start.into_values().partition(|counts| counts.len() == 1);
    assert_eq!(groups, vec![vec![8]; 80]);
    // The questions of the checks.
    assert_eq!(others, [[40; 4]]);
}

#[test]
fn stopping_is_no_error_and_leaves_the_fleet_usable() {
    let runtime = runtime();
    // One of two, so that what it is silent about is asked of the other.
    let silent = Behaviour { faults: vec![(Fault::Never, 0.05)], ..Behaviour::new(Kind::Vllm) };
    let mut fakes = servers(&runtime, 1, &silent);
    fakes.extend(servers(&runtime, 1, &Behaviour::new(Kind::Vllm)));
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
    let settings = FleetSettings { interrupted: || true, ..settings(&fakes[1..], Kind::Vllm) };
    assert!(matches!(Fleet::connect(settings, expected("w0")).map(drop), Err(FleetError::Interrupted)));
}
