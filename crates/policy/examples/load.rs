//! How fast a model folder is read, and how much memory that takes:
//! `cargo run --release -p toehold-policy --example load -- make DIR`, then `... -- load DIR`.
//!
//! `make` writes a random Qwen2.5-0.5B shape in f32 (2 GB). `load` reads the files as bytes, then their weights,
//! each after telling the system to forget what it has of them, and prints rates and the process's peak memory.
//! `memory`, `files` and `files-bf16` open the folder as a policy, with its weights kept in memory or left in their
//! files, and print the peak memory of that. Linux alone: `/proc` and `dd` are asked.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use toehold_policy::{Biases, Dtype, Family, ModelConfig, Policy, PolicyOptions, Storage};
use toehold_rollout::Learner;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (what, dir) = (arguments.next().unwrap_or_default(), PathBuf::from(arguments.next().expect("a folder")));
    if what == "make" {
        let mut config = ModelConfig::new(151_936, 896, 24, 14, 2, 4864);
        config.family = Family::Qwen2;
        config.biases = Biases { query_key_value: true, ..Biases::default() };
        Policy::random(&config, 0, PolicyOptions::default()).unwrap().save_new_folder(&dir).unwrap();
        return;
    }
    match what.as_str() {
        "memory" => return open(&dir, Storage::Memory, Dtype::F32),
        "files" => return open(&dir, Storage::Files, Dtype::F32),
        "files-bf16" => return open(&dir, Storage::Files, Dtype::Bf16),
        _ => {}
    }
    let files = files(&dir);
    let size: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    let rate = |seconds: f64| size as f64 / seconds / 1e9;
    for round in 1..=2 {
        forget(&files);
        let begin = Instant::now();
        let mut piece = vec![0; 1 << 20];
        for path in &files {
            let mut file = std::fs::File::open(path).unwrap();
            while file.read(&mut piece).unwrap() > 0 {}
        }
        println!("round {round}: files as bytes {:.2} GB/s", rate(begin.elapsed().as_secs_f64()));
        forget(&files);
        let begin = Instant::now();
        let weights = Policy::read_weights(&dir).unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        let ratio = peak() / (4.0 * weights.count() as f64);
        println!("round {round}: weights {:.2} GB/s, peak memory {ratio:.2} of them in f32", rate(seconds));
    }
}

/// Opens the folder until it is ready to sample; one way to a process, since a peak does not go down.
fn open(dir: &Path, storage: Storage, dtype: Dtype) {
    let files = files(dir);
    let size: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    let begin = Instant::now();
    let policy = Policy::open(dir, PolicyOptions { storage, dtype, ..PolicyOptions::default() }).unwrap();
    let (seconds, count) = (begin.elapsed().as_secs_f64(), policy.parameter_count());
    let (of_files, of_numbers) = (peak() / size as f64, peak() / (4.0 * count as f64));
    println!(
        "{storage:?}, {dtype:?}: ready to sample after {seconds:.1} s, peak memory {of_files:.2} of the files, \
         {of_numbers:.2} of {count} numbers in f32"
    );
}

/// The safetensors files of a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect()
}

/// Tells the system that it need not keep these files in memory.
fn forget(files: &[PathBuf]) {
    for path in files {
        let ran = |path: &Path| {
            let input = format!("if={}", path.display());
            Command::new("dd").args([&input, "iflag=nocache", "count=0", "status=none"]).status()
        };
        assert!(ran(path).unwrap().success());
    }
}

/// The most memory that this process had, in bytes.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}
