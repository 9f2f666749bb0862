//! Models by their name on the Hugging Face hub, fetched into the cache that all its tools share.
//!
//! `org/name` is a name of the hub where no such folder is there. Its config, its tokenizer, its templates and
//! its safetensors are fetched, nothing else, and lie in the usual place: `HF_HUB_CACHE`, else `hub` in
//! `HF_HOME`, else `~/.cache/huggingface/hub`. `HF_TOKEN` (else the token that `hf auth login` keeps),
//! `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to those tools. What is there already is not fetched
//! again, and what was cut off goes on where it ended.
//!
//! Where the hub cannot be reached, a model that is whole in the cache is used as it is. A name is the newest
//! state of `main`; a run keeps the hash of the weights it began with and refuses others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use hf_hub::api::tokio::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo};
use serde_json::Value;

use crate::interrupt::{self, Interrupted};
use crate::terminal::{Output, Progress};

/// The folder of a model that a person named: the folder itself, or that of a name on the hub, fetched first.
///
/// # Errors
/// Neither is there, the hub refuses or cannot be reached and the cache lacks the model, or Ctrl-C.
pub fn folder(model: &Path, output: &Output) -> Result<PathBuf> {
    let Some(name) = name(model) else { return Ok(model.to_owned()) };
    let cache = cache()?;
    let kept = cached(&cache, name);
    if is_offline() {
        return kept.ok_or_else(|| {
            anyhow!(
                "the model {name} is not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it\n\
                 hint: fetch it where there is a network, or name a folder",
                cache.path().display()
            )
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(fetch(name, &cache, output)) {
        Ok(folder) => Ok(folder),
        Err(Trouble::Network(error)) => {
            let Some(kept) = kept else {
                return Err(error.context(format!("cannot fetch the model {name} from the hub")));
            };
            output.warn(format!("the hub is not reached: {name} is taken from the cache as it is"));
            Ok(kept)
        }
        Err(Trouble::Other(error)) => Err(error),
    }
}

/// The same without a network: the folder itself, or what the cache has of a name.
pub fn local(model: &Path) -> PathBuf {
    let kept = name(model).and_then(|name| cached(&cache().ok()?, name));
    kept.unwrap_or_else(|| model.to_owned())
}

/// The name on the hub, where it is one: two words with one `/` between them, and nothing here by that name.
pub fn name(model: &Path) -> Option<&str> {
    let text = model.to_str()?;
    let (owner, name) = text.split_once('/')?;
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphanumeric())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && word.len() <= 96
    };
    // A folder that is not there yet, in one that is, or in the usual one of runs.
    let is_local = Path::new(owner).exists() || owner == "runs";
    (is_word(owner) && is_word(name) && !is_local).then_some(text)
}

/// What went wrong, and whether the cache may stand in.
enum Trouble {
    Network(anyhow::Error),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        Trouble::Other(error)
    }
}

/// Files that are read beside the weights.
const SMALL_FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Without a byte for so long, a transfer is given up; what came is kept.
const SILENCE: Duration = Duration::from_secs(60);
/// How often the bar is drawn and Ctrl-C is looked for.
const TICK: Duration = Duration::from_millis(200);
/// Files of one model.
const MOST_FILES: usize = 10_000;

async fn fetch(name: &str, cache: &Cache, output: &Output) -> Result<PathBuf, Trouble> {
    let api = api(cache)?;
    let repo = api.repo(Repo::model(name.to_owned()));
    let info = match tokio::time::timeout(SILENCE, repo.info()).await {
        Ok(info) => info.map_err(|error| said(name, error))?,
        Err(_) => return Err(Trouble::Network(anyhow!("no answer for {} seconds", SILENCE.as_secs()))),
    };
    let there: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).take(MOST_FILES).collect();
    let snapshot = cache.path().join(Repo::model(name.to_owned()).folder_name()).join("snapshots").join(&info.sha);
    let mut wanted = small_files(&there);
    for needed in ["config.json", "tokenizer.json"] {
        if !there.contains(&needed) {
            return Err(anyhow!("the model {name} has no {needed} on the hub").into());
        }
    }
    match (there.contains(&WEIGHTS), there.contains(&INDEX)) {
        (true, _) => wanted.push(WEIGHTS.to_owned()),
        (false, true) => wanted.push(INDEX.to_owned()),
        (false, false) => return Err(without_weights(name, &there).into()),
    }
    let mut bar = Progress::start(output, "fetch", None, "MB");
    let mut at = 0;
    while at < wanted.len() {
        let file = wanted[at].clone();
        if !snapshot.join(&file).is_file() {
            download(name, &repo, &snapshot, &file, &mut bar).await?;
        }
        if file == INDEX {
            let shards = shards(&snapshot.join(INDEX))?;
            wanted.extend(shards.into_iter().filter(|shard| shard != INDEX));
        }
        at += 1;
    }
    // The crate notes the newest state with each file it fetches; where none was, the note may be older.
    cache.repo(Repo::model(name.to_owned())).create_ref(&info.sha).context("cannot write into the cache")?;
    Ok(snapshot)
}

/// One file into the cache; a part of a file that is there is gone on with.
async fn download(name: &str, repo: &ApiRepo, snapshot: &Path, file: &str, bar: &mut Progress) -> Result<(), Trouble> {
    let counter = Counter::default();
    let transfer = repo.download_with_progress(file, counter.clone());
    tokio::pin!(transfer);
    let (mut seen, mut silent) = (0, Duration::ZERO);
    loop {
        tokio::select! {
            done = &mut transfer => {
                done.map_err(|error| said(name, error))?;
                break;
            }
            () = tokio::time::sleep(TICK) => {}
        }
        let (got, size) = counter.read();
        bar.set(got / 1_000_000, &format!("of {} MB of {file}", size / 1_000_000));
        silent = if got == seen { silent + TICK } else { Duration::ZERO };
        seen = got;
        if interrupt::requested() {
            return Err(anyhow::Error::from(Interrupted { resume: "the same command".to_owned() }).into());
        }
        if silent >= SILENCE {
            return Err(Trouble::Network(anyhow!("{file}: no byte for {} seconds", SILENCE.as_secs())));
        }
    }
    let (got, size) = counter.read();
    if got < size {
        // The crate makes room for the whole file first, so the rest of it would be zeros.
        forget(&snapshot.join(file));
        return Err(anyhow!("{name}: the hub sent {got} of {size} bytes of {file}\nhint: try again").into());
    }
    Ok(())
}

/// Removes a file of the cache, and what it points to.
fn forget(file: &Path) {
    // What cannot be removed is found broken when it is read.
    if let Ok(blob) = file.canonicalize() {
        std::fs::remove_file(blob).ok();
    }
    std::fs::remove_file(file).ok();
}

/// Bytes that came, and bytes there are.
#[derive(Clone, Debug, Default)]
struct Counter(Arc<(AtomicU64, AtomicU64)>);

impl Counter {
    fn read(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::Relaxed), self.0.1.load(Ordering::Relaxed))
    }
}

impl hf_hub::api::tokio::Progress for Counter {
    async fn init(&mut self, size: usize, _file: &str) {
        self.0.1.store(size as u64, Ordering::Relaxed);
    }

    async fn update(&mut self, size: usize) {
        self.0.0.fetch_add(size as u64, Ordering::Relaxed);
    }

    async fn finish(&mut self) {}
}

/// What the hub's answer means.
fn said(name: &str, error: ApiError) -> Trouble {
    let status = match &error {
        ApiError::RequestError(error) => error.status().map(|status| status.as_u16()),
        _ => None,
    };
    match (status, &error) {
        (Some(404), _) => Trouble::Other(anyhow!(
            "the hub has no model {name}, and there is no folder of this name\n\
             hint: a folder is named with ./ before it where it could be either"
        )),
        (Some(code @ (401 | 403)), _) => Trouble::Other(anyhow!(
            "the hub refuses the model {name} ({code}): it is not there, is private, or its terms were not accepted\n\
             hint: set HF_TOKEN to a token that may read it"
        )),
        (Some(code), _) => Trouble::Network(anyhow!("the hub answers {code} to {name}")),
        (None, ApiError::RequestError(_)) => Trouble::Network(error.into()),
        (None, ApiError::LockAcquisition(path)) => Trouble::Other(anyhow!(
            "{name} is being fetched by another process ({} is locked)\nhint: wait for it",
            path.display()
        )),
        (None, _) => Trouble::Other(anyhow::Error::from(error).context(format!("cannot fetch the model {name}"))),
    }
}

fn small_files(there: &[&str]) -> Vec<String> {
    let is_template = |file: &&str| {
        let name = file.strip_prefix("additional_chat_templates/").and_then(|name| name.strip_suffix(".jinja"));
        name.is_some_and(is_plain)
    };
    there.iter().filter(|file| SMALL_FILES.contains(file) || is_template(file)).map(|&file| file.to_owned()).collect()
}

fn is_plain(file: &str) -> bool {
    !file.starts_with('.') && !file.contains(['/', '\\', '\0'])
}

fn without_weights(name: &str, there: &[&str]) -> anyhow::Error {
    let pickle = there.iter().find(|file| file.ends_with(".bin") || file.ends_with(".pt") || file.ends_with(".pth"));
    match pickle {
        Some(file) => anyhow!(
            "the model {name} has its weights only as {file}, a pickle, which can run any program when it is read\n\
             hint: where you trust it, convert it: python -c 'import transformers as t; \
             t.AutoModelForCausalLM.from_pretrained(\"{name}\", dtype=\"auto\").save_pretrained(\"NEW\"); \
             t.AutoTokenizer.from_pretrained(\"{name}\").save_pretrained(\"NEW\")'"
        ),
        None => anyhow!("the model {name} has neither {WEIGHTS} nor {INDEX} on the hub"),
    }
}

/// The files that an index names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let broken = |reason: &str| anyhow!("{} is broken: {reason}", index.display());
    let bytes = std::fs::read(index).with_context(|| format!("cannot read {}", index.display()))?;
    let index: Value = serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(|| broken("it has no weight_map"))?;
    let mut files: Vec<String> = map.values().filter_map(Value::as_str).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    if let Some(file) = files.iter().find(|file| !is_plain(file)) {
        return Err(broken(&format!("it names {file:?}, which is not beside it")));
    }
    Ok(files)
}

/// What the cache has of a model, where it has all of it.
fn cached(cache: &Cache, name: &str) -> Option<PathBuf> {
    let folder = cache.repo(Repo::model(name.to_owned())).get("config.json")?.parent()?.to_owned();
    let has = |file: &str| folder.join(file).is_file();
    let is_whole = has("tokenizer.json")
        && (has(WEIGHTS) || shards(&folder.join(INDEX)).is_ok_and(|shards| shards.iter().all(|shard| has(shard))));
    is_whole.then_some(folder)
}

fn api(cache: &Cache) -> Result<Api> {
    let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false).with_token(token(cache));
    if let Some(endpoint) = variable("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    builder.build().map_err(|error| anyhow!("cannot speak to the hub: {error}\nhint: is HF_TOKEN a token?"))
}

/// Where all tools of the hub keep what they fetched.
fn cache() -> Result<Cache> {
    if let Some(folder) = variable("HF_HUB_CACHE") {
        return Ok(Cache::new(folder.into()));
    }
    if variable("HF_HOME").is_none() && std::env::home_dir().is_none() {
        bail!("there is no home folder to keep models of the hub in\nhint: set HF_HOME to a folder");
    }
    Ok(if variable("HF_HOME").is_some() { Cache::from_env() } else { Cache::default() })
}

fn token(cache: &Cache) -> Option<String> {
    let kept = if variable("HF_HUB_CACHE").is_some() { None } else { cache.token() };
    variable("HF_TOKEN").map(|token| token.trim().to_owned()).or(kept)
}

fn is_offline() -> bool {
    variable("HF_HUB_OFFLINE")
        .is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub() {
        let is_name = |text: &str| name(Path::new(text)).is_some();
        assert!(["Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B", "a/b"].into_iter().all(is_name));
        let others = ["model", "./a/b", "/a/b", "a/b/c", "../b", "a/../b", "runs/base", "src/lib", "a/", "/b", "a b/c"];
        assert_eq!(others.into_iter().filter(|text| is_name(text)).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn an_index_names_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        let shown = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let place = folder.path().display().to_string();
            shards(&path).map_or_else(|error| error.to_string().replace(&place, "DIR"), |files| files.join(" "))
        };
        let found = [
            r#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#,
            r#"{"weight_map": {"a": "../x"}}"#,
            r#"{"weight_map": []}"#,
            "{",
        ]
        .map(shown);
        expect_test::expect![[r#"
            1.safetensors 2.safetensors
            DIR/model.safetensors.index.json is broken: it names "../x", which is not beside it
            DIR/model.safetensors.index.json is broken: it has no weight_map
            DIR/model.safetensors.index.json is broken: EOF while parsing an object at line 1 column 1"#]]
        .assert_eq(&found.join("\n"));
    }
}
