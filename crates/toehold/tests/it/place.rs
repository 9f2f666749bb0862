//! A folder of its own for each test, and the program run in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use toehold::rollout::store::{StartFilter, TraceFilter};
use toehold::rollout::{Store, TokenizerFile};

/// A model that transformers made, of random weights: it succeeds at nothing.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/qwen3-tiny");

/// Small folders of every family, with what transformers computed for them.
const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/tests/data");

/// Problems of a kind that any model can be asked.
const PROBLEMS: &str = r#"{"id": "sum-1", "problem": "1 + 1", "answer": "2"}
{"id": "sum-2", "problem": "2 + 3", "answer": "5"}
"#;

/// The smallest recipe that goes through every stage: its band makes it collect first.
const FILE_RECIPE: &str = r#"
[run]
name = "r"
[problems]
file = "problems.jsonl"
held_out_file = "held_out.jsonl"
band = "unsolved"
[policy]
model = "model"
[collect]
until = "max-attempts"
max_attempts = 3
temperature = 1.0
max_tokens = 6
[curriculum]
kind = "plain"
[objective]
kind = "reinforce"
[train]
steps = 2
starts = 2
group = 2
max_tokens = 6
[evaluate]
samples = 2
k = [1, 2]
curve_samples = 2
temperature = 1.0
max_tokens = 6
"#;

/// Chains so short that a base that was hardly trained succeeds now and then.
const CHAIN_RECIPE: &str = r#"
[run]
name = "r"
[problems]
count = 24
held_out = 4
synthetic = { family = "chain", steps = [1, 1] }
[policy]
model = "base"
[collect]
max_attempts = 150
temperature = 1.0
max_tokens = 24
in_flight = 64
[curriculum]
kind = "success-prefix"
[objective]
kind = "reinforce"
[train]
steps = 12
starts = 4
group = 8
learning_rate = 1e-3
max_tokens = 24
checkpoint_every = 1
[evaluate]
samples = 4
k = [1, 4]
curve_samples = 2
temperature = 1.0
max_tokens = 24
prefix_sweep = [0.0, 0.5]
"#;

/// A temporary folder. Every command runs in it, so all paths are relative and no test sees another.
pub(crate) struct Place(tempfile::TempDir);

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// With a problem file, a held-out one, the model that was made elsewhere, and a recipe.
    pub(crate) fn with_files() -> Place {
        let place = Place::new();
        copy_folder(Path::new(FIXTURE), &place.path("model"));
        for name in ["expected.json", "expected.safetensors"] {
            fs::remove_file(place.path("model").join(name)).unwrap();
        }
        place.write("problems.jsonl", PROBLEMS);
        place.write("held_out.jsonl", r#"{"id": "sum-3", "problem": "3 + 3", "answer": "6"}"#);
        place.write("recipe.toml", FILE_RECIPE);
        place
    }

    /// With one of the small folders that transformers wrote, as `model`, and what it computed for it.
    pub(crate) fn with_model(name: &str) -> Place {
        let place = Place::new();
        copy_folder(&Path::new(MODELS).join(name), &place.path("model"));
        place
    }

    /// With a base that knows chains a little, and a recipe.
    pub(crate) fn with_chains() -> Place {
        let place = Place::new();
        copy_folder(chain_base(), &place.path("base"));
        place.write("recipe.toml", CHAIN_RECIPE);
        place
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        copy_folder(&self.path(from), &self.path(to));
    }

    pub(crate) fn tokenizer(&self, model: &str) -> TokenizerFile {
        TokenizerFile::open(&self.path(model)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes the first `from` of a file into `to`; it must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// The program with `arguments`, which are split at spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toehold"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command
    }

    pub(crate) fn toehold(&self, arguments: &str) -> Ran {
        self.ran(self.command(arguments).output().unwrap())
    }

    /// The same with arguments that have spaces in them.
    pub(crate) fn toehold_with(&self, arguments: &[&str]) -> Ran {
        self.ran(self.command("").args(arguments).output().unwrap())
    }

    /// The same through a shell, where `toehold` is the program.
    pub(crate) fn shell(&self, script: &str) -> Ran {
        let script = script.replace("toehold", env!("CARGO_BIN_EXE_toehold"));
        self.ran(Command::new("sh").args(["-c", &script]).current_dir(self.0.path()).output().unwrap())
    }

    pub(crate) fn ran(&self, output: Output) -> Ran {
        let place = self.0.path().to_str().unwrap();
        let text = |bytes: &[u8]| without_memory(&String::from_utf8(bytes.to_vec()).unwrap().replace(place, "PLACE"));
        // A process that a signal ended has no status; the shells' number stands for it.
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: without_hashes(&text(&output.stderr)),
        }
    }

    /// Every file below `name` and what is in it.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect_files(&self.path(name), self.0.path(), &mut found);
        found
    }

    /// What the run `name` has that must not depend on when it was stopped: every row of its store apart
    /// from the count of dropped completions, its events, and its checkpoints.
    pub(crate) fn kept(&self, name: &str) -> Vec<(String, String)> {
        let run = self.path(name);
        let store = Store::open_read_only(run.join("traces.db")).unwrap();
        let mut kept = Vec::new();
        kept.push(("problems".to_owned(), format!("{:#?}", store.problems().unwrap())));
        kept.push(("starts".to_owned(), format!("{:#?}", store.starts(&StartFilter::default()).unwrap())));
        kept.push(("policies".to_owned(), format!("{:#?}", store.policies().unwrap())));
        kept.push(("traces".to_owned(), format!("{:#?}", store.traces(&TraceFilter::default()).unwrap())));
        let mut campaigns = store.campaigns().unwrap();
        for campaign in &mut campaigns {
            (campaign.discarded_attempts, campaign.discarded_tokens) = (0, 0);
        }
        kept.push(("campaigns".to_owned(), format!("{campaigns:#?}")));
        drop(store);
        for (path, bytes) in self.files(name) {
            // The store was compared row by row: free pages and its log are its own business.
            let is_store = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("traces.db"));
            if !is_store {
                let hash = toehold::prepare::short_hash(&bytes);
                kept.push((path.display().to_string(), format!("{} bytes, {hash}", bytes.len())));
            }
        }
        kept
    }
}

/// That two runs kept the same; says which part differs and where.
#[track_caller]
pub(crate) fn assert_kept_the_same(expected: &[(String, String)], found: &[(String, String)], when: &str) {
    let names = |kept: &[(String, String)]| kept.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(expected), names(found), "{when}");
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        if expected != found {
            let lines = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
            let line = lines.unwrap_or_else(|| expected.lines().count().min(found.lines().count()));
            let at = |text: &str| text.lines().nth(line).unwrap_or("(its end)").to_owned();
            panic!("{when}: {name} differs at line {}: {} became {}", line + 1, at(expected), at(found));
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}\n{}", self.status, self.stderr)?;
        if !self.stdout.is_empty() {
            write!(f, "stdout:\n{}", self.stdout)?;
        }
        Ok(())
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Ran {
        assert_eq!(self.status, 0, "{self}");
        self
    }
}

/// A base for short chains, made once for all tests of this process.
fn chain_base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chain-base");
        let _ = fs::remove_dir_all(&folder);
        let out = Command::new(env!("CARGO_BIN_EXE_toehold"))
            .args(["pretrain", "--effort", "0.06", "--careful", "0.5", "--out"])
            .arg(&folder)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(TokenizerFile::open(&folder).is_ok());
        folder
    })
}

/// How much memory is predicted depends on the machine's threads.
fn without_memory(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("memory: the policy takes at most") {
            "memory: the policy takes at most ...\n".into()
        } else {
            line.to_owned()
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

/// With `HASH` for every word of 16 hexadecimal digits, which change with every default of a recipe.
fn without_hashes(text: &str) -> String {
    let is_hash = |word: &str| word.len() == 16 && word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| {
            let (body, end) = word.split_at(word.len().saturating_sub(word.chars().last().map_or(0, char::len_utf8)));
            if is_hash(body) { format!("HASH{end}") } else { word.to_owned() }
        })
        .collect()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn collect_files(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}
