//! The program with a fleet: fake servers on loopback that compute a real policy, with faults, and the program
//! killed and interrupted. Whatever happens, a run ends with the rows, events and weights of one to which nothing
//! happened.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use toehold::policy::{Adapter, Policy, PolicyOptions};
use toehold::rollout::{SampleRequest, Sampler as _, SamplingParams, Scorer as _, StopReason, TokenizerFile, Trace};

use crate::fake::{Asked, Behaviour, Fake, Fault, Kind, Model, Written};
use crate::place::{Place, assert_kept_the_same};

/// A model folder as a server has it.
struct Served {
    policy: Mutex<Policy>,
    tokenizer: TokenizerFile,
}

impl Served {
    fn open(folder: &Path) -> Arc<Served> {
        let policy = Policy::open(folder, PolicyOptions { threads: Some(1), ..PolicyOptions::default() }).unwrap();
        Arc::new(Served { policy: Mutex::new(policy), tokenizer: TokenizerFile::open(folder).unwrap() })
    }
}

impl Model for Served {
    fn complete(&self, asked: &Asked) -> Written {
        let params = SamplingParams {
            temperature: asked.temperature,
            top_k: u32::try_from(asked.top_k).unwrap_or(0),
            top_p: asked.top_p,
            max_tokens: asked.max_tokens as u32,
            stop: asked.stop.clone(),
            ..SamplingParams::plain(1)
        };
        let (prompt, prefix) = (asked.tokens.as_slice().into(), [].into());
        let request = SampleRequest { prompt, prefix, params, seed: asked.seed as u64 };
        let mut written = None;
        let keep = &mut |_, completion| {
            written = Some(completion);
            std::ops::ControlFlow::Continue(())
        };
        self.policy.lock().unwrap().sample(&[request], keep).unwrap();
        let written = written.unwrap();
        (written.tokens, written.behavior, written.stop == StopReason::EndOfText)
    }

    fn score(&self, tokens: &[u32]) -> Vec<f32> {
        let mut policy = self.policy.lock().unwrap();
        let (prompt, rest) = tokens.split_at(1);
        let behavior = vec![0.0; rest.len()];
        let completion = toehold::rollout::Completion { tokens: rest.to_vec(), behavior, stop: StopReason::Length };
        let trace = Trace { prompt: prompt.to_vec(), prefix: Vec::new(), completion, sampled_by: policy.version() };
        policy.score(&[&trace]).unwrap().remove(0).current
    }

    fn load(&self, folder: &str) -> Result<(), String> {
        let options = self.policy.lock().unwrap().options().clone();
        let policy = Policy::open(Path::new(folder), options).map_err(|error| error.to_string())?;
        *self.policy.lock().unwrap() = policy;
        Ok(())
    }

    fn use_adapter(&self, folder: &str) -> Result<(), String> {
        let mut policy = self.policy.lock().unwrap();
        let adapter = Adapter::read(Path::new(folder), policy.config()).map_err(|error| error.to_string())?;
        if policy.adapter() != Some(&adapter) {
            *policy = policy.fork().with_adapter(adapter).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn tokens_of(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text).unwrap()
    }

    fn text_of(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Servers with the place's base.
fn servers(runtime: &tokio::runtime::Runtime, place: &Place, count: u64, behaviour: &Behaviour) -> Vec<Fake> {
    let start = |seed| Fake::start(runtime, Behaviour { seed, ..behaviour.clone() }, Served::open(&place.path("base")));
    (0..count).map(start).collect()
}

/// The recipe's own table and, as overrides, what is different from test to test.
fn with_fleet(place: &Place, kind: &str, fakes: &[Fake]) {
    let addresses: Vec<String> = fakes.iter().map(Fake::address).collect();
    let recipe = place.read("recipe.toml");
    place.write(
        "recipe.toml",
        format!(
            "{recipe}\n[sampler]\nkind = \"{kind}\"\nendpoints = {addresses:?}\nserved_model = \"m\"\nchoices = 1\nweights_path = \"weights\"\n"
        ),
    );
}

const SMALL: &str = "--set train.steps=3 --set problems.count=8 --set collect.max_attempts=20 \
     --set evaluate.prefix_sweep=[] --set evaluate.samples=4";

fn faults() -> Vec<(Fault, f64)> {
    let all = [Fault::TooMany, Fault::Internal, Fault::Unavailable, Fault::Closed, Fault::Half];
    let more = [Fault::Fewer, Fault::Nan, Fault::OtherVersion, Fault::Html, Fault::Twice];
    all.into_iter().chain(more).map(|fault| (fault, 0.01)).collect()
}

/// What has to be the same on any machines: all but who sampled it and where that was written. The report shows the
/// recipe, whose addresses differ.
fn kept(place: &Place) -> Vec<(String, String)> {
    let mut kept = place.kept("runs/r");
    kept.retain(|(name, _)| !["fleet.jsonl", "recipe.toml", "report.html"].iter().any(|file| name.ends_with(file)));
    kept.push(("report.html without the recipe".to_owned(), without_recipe(&place.read("runs/r/report.html"))));
    kept
}

/// A report up to the recipe's values and from their end.
fn without_recipe(report: &str) -> String {
    let (before, rest) = report.split_once("Every value as resolved").unwrap();
    let (_, after) = rest.split_once("</pre>").unwrap();
    format!("{before}{after}")
}

#[test]
fn a_run_through_servers_that_fail_while_it_is_killed_keeps_what_any_other_does() {
    let runtime = runtime();
    let whole = Place::with_chains();
    let quiet = servers(&runtime, &whole, 1, &Behaviour::new(Kind::Sglang));
    with_fleet(&whole, "sglang", &quiet);
    let ran = whole.toehold(&format!("run recipe.toml {SMALL}")).succeeded();
    assert!(ran.stderr.contains("completions"), "{ran}");
    assert_eq!(whole.files("weights").keys().filter(|path| path.ends_with("config.json")).count(), 1);

    let place = Place::with_chains();
    let faulty = servers(&runtime, &place, 2, &Behaviour { faults: faults(), ..Behaviour::new(Kind::Vllm) });
    with_fleet(&place, "vllm", &faulty);
    let command = format!("run recipe.toml {SMALL}");
    for kill in 0..6 {
        let mut child = place.command(&command).arg("--quiet").stdout(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(150 + 250 * kill));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.toehold(&command).succeeded();
    assert_kept_the_same(&kept(&whole), &kept(&place), "another engine, faults and kills");
    assert!(faulty.iter().any(|fake| fake.seen().faults.load(SeqCst) > 0));
    let log = place.read("runs/r/fleet.jsonl");
    assert!(log.lines().all(|line| line.contains("\"endpoint\":\"http://127.0.0.1:") && line.contains("\"policy\":")));
}

#[test]
fn a_run_hands_its_adapter_over_alone() {
    let runtime = runtime();
    let place = Place::with_chains();
    let behaviour = Behaviour { adapters: true, faults: faults(), calm: 40, ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, &place, 2, &behaviour);
    with_fleet(&place, "vllm", &fakes);
    let lora = "--set policy.lora.rank=4 --set sampler.weights=adapter";
    place.toehold(&format!("run recipe.toml {SMALL} {lora}")).succeeded();
    // What was sampled with is what the policy computes, so the servers had its adapters, and its base as it was.
    let mismatch = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["mismatch"].as_f64();
    let mismatches: Vec<f64> = place.read("runs/r/events.jsonl").lines().filter_map(mismatch).collect();
    assert!(!mismatches.is_empty() && mismatches.iter().all(|&mismatch| mismatch < 1e-6), "{mismatches:?}");
    for fake in &fakes {
        let changes = fake.seen().changes.lock().unwrap().clone();
        assert!(changes.len() > 1 && changes.iter().all(|change| change.contains("_lora_adapter r-")), "{changes:?}");
        assert_eq!(fake.adapters().len(), 1);
    }
    let handed: Vec<String> = place.files("weights").into_keys().map(|path| path.display().to_string()).collect();
    let last = handed[0].rsplit_once('/').unwrap().0.to_owned();
    assert!(last.contains("r/adapters/weights-"), "{handed:?}");
    let files = ["adapter_config.json", "adapter_model.safetensors"].map(|file| format!("{last}/{file}"));
    assert_eq!(handed, files);

    let refused = place.toehold(&format!("run recipe.toml {SMALL} --set run.name=q --set sampler.weights=adapter"));
    assert!(refused.to_string().contains("hands over the policy's adapter, and the policy has none"), "{refused}");
}

#[test]
fn ctrl_c_while_servers_say_nothing() {
    let runtime = runtime();
    let place = Place::with_chains();
    // The checks and some completions are answered, then nothing is.
    let silence = Behaviour { faults: vec![(Fault::Never, 1.0)], calm: 24, ..Behaviour::new(Kind::Vllm) };
    let fakes = servers(&runtime, &place, 1, &silence);
    with_fleet(&place, "vllm", &fakes);
    let mut child = place.command("sample recipe.toml --quiet").stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while fakes[0].seen().faults.load(SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        sleep(Duration::from_millis(5));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!((status.code(), said.contains("everything so far is kept")), (Some(130), true), "{said}");
}

/// The program with this table fails and says all of `parts`; no key stands in what it says or writes.
#[track_caller]
fn check(table: &str, command: &str, parts: &[&str]) {
    let place = Place::with_files();
    let runtime = runtime();
    let behaviour = Behaviour { key: Some("sesame".to_owned()), ..Behaviour::new(Kind::Vllm) };
    let fake = Fake::start(&runtime, behaviour, Served::open(&place.path("model")));
    let recipe = place.read("recipe.toml");
    place.write("recipe.toml", format!("{recipe}\n[sampler]\n{}\n", table.replace("SERVER", &fake.address())));
    let ran = place.command(command).env("RIGHT", "sesame").env("WRONG", "salami").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap().replace(&fake.address(), "http://SERVER");
    assert_eq!(ran.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "{said}\ndoes not say: {part}");
    }
    let texts = place.files("runs").into_values().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    for text in texts.chain([said]) {
        assert!(!text.contains("sesame") && !text.contains("salami"), "a key stands in: {text}");
    }
}

#[test]
fn a_fleet_that_cannot_work_is_said_before_anything_is_sampled() {
    let server = "kind = \"vllm\"\nendpoints = [\"SERVER\"]\nserved_model = \"m\"\n";
    let with = |more: &str| format!("{server}{more}");
    let (sample, train) = ("sample recipe.toml", "run recipe.toml");
    check("kind = \"vlm\"", sample, &["[sampler] kind", "vlm"]);
    check("kind = \"vllm\"", sample, &["[sampler] endpoints is [], expected at least one address"]);
    check("kind = \"vllm\"\nendpoints = [\"localhost:8000\"]", sample, &["is no server's address"]);
    check(
        "kind = \"vllm\"\nendpoints = [\"http://127.0.0.1:9\"]\npatience_s = 0.1",
        sample,
        &["none of the fleet's servers can be used", "http://127.0.0.1:9/v1/models: cannot connect"],
    );
    check(
        &with("key_env = \"NO_SUCH_VARIABLE\""),
        sample,
        &["the environment variable NO_SUCH_VARIABLE holds no API key"],
    );
    check(&with("key_env = \"WRONG\""), sample, &["http://SERVER/v1/models: status 401", "(the key)", "hint: "]);
    check(&with("key_env = \"RIGHT\""), train, &["[sampler] has no weights_path", "hint: "]);
}
