//! How many sandboxed runs a second, and what one costs.
//!
//! `cargo run --release -p toehold-verifier --example sandbox_rate [SECONDS]`
//!
//! Each run is a job of one trivial test: `cat` copies a line. It is measured with every wall that can
//! be had here, with fewer, and with Python if there is a `/usr/bin/python3`, on one thread and on two.
//! Processor time is that of this process and of the programs; on a machine that does other work beside,
//! it says more than the rate.

#![expect(clippy::print_stdout, reason = "an example's output is what it prints")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toehold_verifier::program::{self, Job, Language, Level, Program, ProgramOutcome, Test, Wall, Walls};

fn main() {
    let seconds = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(3.0);
    let begun = Instant::now();
    let walls = program::reachable(Walls::ALL);
    println!(
        "walls that can be had here: {walls} ({}), found in {:.1} ms",
        walls.level(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    println!("{:<44} {:>8} {:>12} {:>12} {:>8}", "walls", "threads", "runs/s", "median ms", "CPU ms");
    let without = |list: &[Wall]| list.iter().fold(walls, |walls, &wall| walls.without(wall));
    let sets = [
        ("all", walls),
        ("all but the network", without(&[Wall::Network])),
        ("all but the files", without(&[Wall::Files])),
        ("landlock and seccomp", walls.and(Walls::NONE.with(Wall::Landlock).with(Wall::Seccomp).with(Wall::Identity))),
        ("none, limits only", Walls::NONE),
    ];
    for (name, walls) in sets {
        for threads in [1, 2] {
            measure(name, walls, threads, seconds, &cat());
        }
    }
    if Path::new("/usr/bin/python3").exists() {
        for threads in [1, 2] {
            measure("all, Python prints", walls, threads, seconds, &python());
            measure("all, Python is called", walls, threads, seconds, &python_call());
        }
    }
}

fn measure(name: &str, walls: Walls, threads: usize, seconds: f64, job: &Job) {
    let mut job = job.clone();
    job.sandbox.walls = walls;
    job.sandbox.minimum = Level::Limits;
    let failures = AtomicUsize::new(0);
    let time = Duration::from_secs_f64(seconds);
    let cpu_before = cpu_ticks();
    let begun = Instant::now();
    let mut times: Vec<f64> = thread::scope(|scope| {
        let worker = || {
            let mut times = Vec::new();
            while begun.elapsed() < time {
                let run = Instant::now();
                if program::run(&job).outcome != ProgramOutcome::Pass {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
                times.push(run.elapsed().as_secs_f64() * 1e3);
            }
            times
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    // The kernel's tick for programs is a hundredth of a second on every machine.
    let cpu = (cpu_ticks() - cpu_before) as f64 * 10.0 / times.len() as f64;
    print!("{name:<44} {threads:>8} {rate:>12.0} {median:>12.2} {cpu:>8.2}");
    match failures.into_inner() {
        0 => println!(),
        count => println!("   {count} of {} did not pass: {}", times.len(), program::run(&job).detail),
    }
}

/// User and system time of this process and of those that it waited for.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<u64>().ok()).sum()
}

fn cat() -> Job {
    let run = vec!["/bin/cat".to_owned()];
    let language = Language::Command { file: "none.txt".to_owned(), compile: None, run };
    let test = Test::Input { stdin: "1 2\n".to_owned(), stdout: "1 2\n".to_owned() };
    Job::new(Program { language, source: String::new() }, vec![test])
}

fn python() -> Job {
    let language = Language::Python { interpreter: "/usr/bin/python3".into() };
    let test = Test::Input { stdin: "1 2\n".to_owned(), stdout: "3\n".to_owned() };
    Job::new(Program { language, source: "print(sum(map(int, input().split())))\n".to_owned() }, vec![test])
}

fn python_call() -> Job {
    let language = Language::Python { interpreter: "/usr/bin/python3".into() };
    let test = Test::Call { function: "add".to_owned(), arguments: "[1, 2]".to_owned(), expected: "3".to_owned() };
    Job::new(Program { language, source: "def add(a, b):\n    return a + b\n".to_owned() }, vec![test])
}
