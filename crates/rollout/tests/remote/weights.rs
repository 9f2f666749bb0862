//! Weights that are handed over, and servers that are left as they should be when that goes wrong.

use std::path::Path;
use std::sync::{Arc, Barrier};

use expect_test::{Expect, expect};
use toehold_rollout::remote::{Expected, Fleet, WeightFolders};
use toehold_rollout::{PolicyVersion, Sampler as _};

use super::fake::toy::Toy;
use super::fake::{self, Behaviour, Fake, Kind};
use super::{LENGTH, assert_all_right, expected, requests, runtime, sample, servers, settings};

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

/// What a server is left as when it breaks the connection after it did what `route` asks.
#[track_caller]
fn check_interrupted(route: &'static str, expected_text: Expect) {
    let runtime = runtime();
    let behaviour = Behaviour { breaks: vec![(route, 1)], version: "w0".to_owned(), ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, 1, &behaviour);
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("weights"), "w1").unwrap();
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected("w0")).unwrap();
    let next = || Expected { weights: Some(place.path().to_owned()), ..expected("w1") };
    let said = match fleet.load(next()) {
        Ok(()) => "it works".to_owned(),
        Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let folder = place.path().display().to_string();
    expected_text.assert_eq(&said.replace(&fakes[0].address(), "http://SERVER").replace(&folder, "FOLDER"));
    assert!(!fakes[0].is_paused(), "{route}");
    fleet.load(next()).unwrap();
    assert_eq!((fakes[0].version(), fakes[0].is_paused()), ("w1".to_owned(), false));
    let requests = requests(2, 2);
    assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
}

#[test]
fn a_load_that_fails_half_way_leaves_no_server_paused() {
    // What may pass is tried again at once.
    check_interrupted("/pause", expect!["it works"]);
    check_interrupted(
        "/collective_rpc",
        expect![
            "http://SERVER did not load FOLDER: http://SERVER/collective_rpc: the connection broke: connection closed before message completed"
        ],
    );
    check_interrupted("/reset_prefix_cache", expect!["it works"]);
    check_interrupted("/update_weight_version", expect!["it works"]);
    check_interrupted("/resume", expect!["it works"]);
}

#[test]
fn a_load_that_nobody_waits_for_any_more_leaves_no_server_paused() {
    /// Reads weights when it is told to.
    struct Waits {
        toy: Toy,
        reads: Arc<Barrier>,
        goes_on: Arc<Barrier>,
    }
    impl fake::Model for Waits {
        fn complete(&self, asked: &fake::Asked) -> fake::Written {
            self.toy.complete(asked)
        }
        fn score(&self, tokens: &[u32]) -> Vec<f32> {
            self.toy.score(tokens)
        }
        fn load(&self, folder: &str) -> Result<(), String> {
            if folder.ends_with("w1") {
                self.reads.wait();
                self.goes_on.wait();
            }
            self.toy.load(folder)
        }
        fn tokens_of(&self, text: &str) -> Vec<u32> {
            self.toy.tokens_of(text)
        }
        fn text_of(&self, tokens: &[u32]) -> String {
            self.toy.text_of(tokens)
        }
    }
    /// Refuses weights once another server reads them.
    struct Refuses(Toy, Arc<Barrier>);
    impl fake::Model for Refuses {
        fn complete(&self, asked: &fake::Asked) -> fake::Written {
            self.0.complete(asked)
        }
        fn score(&self, tokens: &[u32]) -> Vec<f32> {
            self.0.score(tokens)
        }
        fn load(&self, folder: &str) -> Result<(), String> {
            if folder.ends_with("w1") {
                self.1.wait();
                return Err("its disk is full".to_owned());
            }
            self.0.load(folder)
        }
        fn tokens_of(&self, text: &str) -> Vec<u32> {
            self.0.tokens_of(text)
        }
        fn text_of(&self, tokens: &[u32]) -> String {
            self.0.text_of(tokens)
        }
    }
    let place = tempfile::tempdir().unwrap();
    let give = |weights: &str| {
        let folder = place.path().join(weights);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("weights"), weights).unwrap();
        Expected { weights: Some(folder), ..expected(weights) }
    };
    for is_dropped in [false, true] {
        let runtime = runtime();
        let other_runtime = self::runtime();
        let behaviour = Behaviour { version: "w0".to_owned(), ..Behaviour::new(Kind::Vllm) };
        let [reads, goes_on] = [Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2))];
        let waits = Waits { toy: Toy::new("w0", LENGTH), reads: reads.clone(), goes_on: goes_on.clone() };
        let fakes = [
            Fake::start(&runtime, behaviour.clone(), Arc::new(waits)),
            Fake::start(&other_runtime, behaviour, Arc::new(Refuses(Toy::new("w0", LENGTH), reads))),
        ];
        let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), give("w0")).unwrap();
        let error = fleet.load(give("w1")).unwrap_err().to_string();
        assert!(error.contains("its disk is full"), "{error}");
        assert!(fakes[0].is_paused());
        if is_dropped {
            // The server reads on, and is told to go on nevertheless.
            drop(fleet);
            assert!(!fakes[0].is_paused());
            goes_on.wait();
            continue;
        }
        goes_on.wait();
        // The old weights again: the server still has their name until the other load has ended.
        fleet.load(give("w0")).unwrap();
        assert_eq!((fakes[0].version(), fakes[0].is_paused()), ("w0".to_owned(), false));
        let requests = requests(4, 2);
        assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
    }
}

#[test]
fn a_server_that_was_left_paused_is_resumed_and_reads_its_weights_again() {
    let runtime = runtime();
    let behaviour = Behaviour { version: "w0".to_owned(), ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, 1, &behaviour);
    fakes[0].pause();
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("weights"), "w0").unwrap();
    let expected = Expected { weights: Some(place.path().to_owned()), ..expected("w0") };
    let mut fleet = Fleet::connect(settings(&fakes, Kind::Vllm), expected).unwrap();
    let requests = requests(2, 2);
    assert_all_right(&requests, &sample(&mut fleet, &requests).unwrap());
    let changes = fakes[0].seen().changes.lock().unwrap().join("\n");
    let name = place.path().file_name().unwrap().to_string_lossy().into_owned();
    expect![[r#"
        /resume
        /pause?mode=keep
        /collective_rpc reload_weights FOLDER
        /reset_prefix_cache
        /resume"#]]
    .assert_eq(&changes.replace(&name, "FOLDER"));
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
