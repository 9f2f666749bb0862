//! How fast a model folder is read, and how much memory that takes:
//! `cargo run --release -p toehold-policy --example load -- make DIR`, then `... -- load DIR`.
//!
//! `make` writes a random Qwen2.5-0.5B shape in f32 (2 GB). `load` reads the files as bytes, then opens the
//! folder, each after telling the system to forget what it has of them, and prints rates and the process's
//! peak memory. Linux alone: `/proc` and `dd` are asked.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use toehold_policy::{Biases, Family, ModelConfig, Policy, PolicyOptions};

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
    let files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
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
    let begin = Instant::now();
    let policy = Policy::open(&dir, PolicyOptions::default()).unwrap();
    let (seconds, count) = (begin.elapsed().as_secs_f64(), policy.weights().count());
    let ratio = peak() / (4.0 * count as f64);
    println!("ready to sample after {seconds:.1} s, peak memory {ratio:.2} of the weights in f32 ({count} numbers)");
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
