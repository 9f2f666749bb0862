//! Every attack of the list is stopped, and succeeds once its wall is removed.
//!
//! The attacks are one C program, since a C compiler is all that a build machine surely has. They run as
//! the user that runs the tests and, where that is root, once more as an ordinary user. Where a wall cannot be built,
//! the checks of that wall alone are left out, with a line on standard error.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a check that is left out says so")]

mod attacks;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use attacks::{Attack, attack, folder, walls, without};
use toehold_verifier::program::Wall::{Files, Identity, Ipc, Landlock, Network, Processes, Seccomp};
use toehold_verifier::program::{self, Job, Language, Level, Program, ProgramOutcome, Test, Wall, Walls};

#[track_caller]
fn held(words: &[&str], change: impl Fn(&mut Job)) {
    assert_eq!(attack(words, "held\n", change), Ok(()), "{words:?} should be stopped");
}

#[track_caller]
fn breaks_out(words: &[&str], change: impl Fn(&mut Job)) {
    assert_eq!(attack(words, "broke out\n", change), Ok(()), "{words:?} should succeed");
}

/// How an attack ended that prints nothing.
fn ended(words: &[&str], change: impl Fn(&mut Job)) -> String {
    attack(words, "", change).err().unwrap_or_else(|| "passed".to_owned())
}

/// The attack fails behind all walls and behind each of the named sets alone, and succeeds without any.
#[track_caller]
fn stopped_by(words: &[&str], sets: &[&[Wall]]) {
    held(words, |_| ());
    for set in sets {
        let reached = walls(set);
        if set.iter().any(|&wall| !reached.contains(wall)) {
            eprintln!("left out: {words:?} behind {set:?}, only `{reached}` can be had here");
            continue;
        }
        held(words, |job| job.sandbox.walls = reached);
    }
    breaks_out(words, |job| job.sandbox.walls = Walls::NONE);
}

/// A limit stops the attack, and a wider one lets it through.
#[track_caller]
fn stopped_by_limit(words: &[&str], wider: impl Fn(&mut Job)) {
    held(words, |_| ());
    breaks_out(words, wider);
}

/// Another process of the same user.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_again_as_an_ordinary_user() {
    attacks::again_as_an_ordinary_user("all_again_as_an_ordinary_user");
}

#[test]
fn what_is_reached_here() {
    let reached = program::reachable(Walls::ALL);
    eprintln!("walls that can be had here: {reached} ({})", reached.level());
    // Every kernel that the project supports has at least these two.
    assert!(reached.level() >= Level::Restricted, "{reached}");
}

#[test]
fn fork_bomb() {
    stopped_by_limit(&["forks", "60"], |job| job.limits.processes = 100);
    let restricted = walls(&[Identity, Landlock, Seccomp]);
    held(&["forks", "60"], |job| job.sandbox.walls = restricted);
}

#[test]
fn ten_gigabytes() {
    stopped_by_limit(&["reserve"], |job| job.limits.address_space_bytes = 64 << 30);
    // Its second half would take the machine's memory, so it is left out.
    held(&["touch"], |job| job.limits.address_space_bytes = 200 << 20);
}

#[test]
fn infinite_loop_and_sleep() {
    for (words, wall, cpu) in
        [("spin", 20.0, 1.0), ("spin", 0.3, 20.0), ("sleep", 0.3, 20.0), ("spin-children", 0.3, 20.0)]
    {
        let begun = Instant::now();
        let ended = ended(&[words], |job| {
            job.limits.wall = Duration::from_secs_f64(wall);
            job.limits.cpu = Duration::from_secs_f64(cpu);
        });
        assert!(ended.starts_with("timeout: "), "{words}: {ended}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{words} took {:?}", begun.elapsed());
    }
}

#[test]
fn infinite_output() {
    for stream in ["1", "2"] {
        let ended = ended(&["flood", stream], |_| ());
        assert!(ended.starts_with("output_limit: it put out more than 1048576 bytes"), "{ended}");
    }
}

#[test]
fn grandchild_left_behind() {
    // A name of its own for each run, to be found by in the list of processes.
    let left = |own_session: &str, token: &str, walls: Walls| -> usize {
        held(&["grandchild", own_session, token], |job| job.sandbox.walls = walls);
        let mut alive = processes_named(token);
        for _ in 0..50 {
            if alive.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            alive = processes_named(token);
        }
        for pid in &alive {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        alive.len()
    };
    let token = |name: &str| format!("toehold-left-{name}-{}", std::process::id());
    assert_eq!(left("1", &token("all"), Walls::ALL), 0);
    if walls(&[Processes]).contains(Processes) {
        assert_eq!(left("1", &token("processes"), walls(&[Processes])), 0, "a process namespace alone");
    } else {
        eprintln!("left out: a process namespace, which cannot be had here");
    }
    assert_eq!(left("1", &token("seccomp"), walls(&[Seccomp])), 0, "no session of its own");
    assert_eq!(left("0", &token("group"), Walls::NONE), 0, "its group is ended even without walls");
    assert_eq!(left("1", &token("none"), Walls::NONE), 1, "without walls it stays");
}

fn processes_named(token: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let named = entries.filter(|entry| {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        words.split(|&byte| byte == 0).any(|word| word == token.as_bytes())
    });
    named.map(|entry| entry.file_name().display().to_string()).collect()
}

#[test]
fn writes_outside() {
    let folder = folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = folder.path().join("written").display().to_string();
    stopped_by(&["write", &path], &[&[Files], &[Landlock]]);
    // What it may read it must not write, whoever owns it.
    for set in [Walls::ALL, walls(&[Landlock]), walls(&[Files])].into_iter().filter(|set| !set.is_empty()) {
        held(&["write", "/usr/toehold-test"], |job| job.sandbox.walls = set);
    }
    assert!(!fs::exists("/usr/toehold-test").unwrap());
}

#[test]
fn reads_of_the_tests_and_of_passwd() {
    let folder = folder();
    let tests = folder.path().join("expected.json");
    fs::write(&tests, "[1, 2, 3]").unwrap();
    for path in [tests.to_str().unwrap(), "/etc/passwd", "/proc/self/status"] {
        stopped_by(&["read", path], &[&[Files], &[Landlock]]);
        stopped_by(&["link", path], &[&[Files], &[Landlock]]);
    }
}

#[test]
fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    stopped_by(&["tcp", &port], &[&[Network], &[Seccomp]]);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port().to_string();
    stopped_by(&["udp", &port], &[&[Network], &[Seccomp]]);
}

#[test]
fn ptrace_and_other_calls() {
    stopped_by(&["ptrace"], &[&[Seccomp]]);
    breaks_out(&["ptrace"], |job| job.sandbox.walls = without(&[Seccomp]));
    held(&["calls"], |_| ());
    breaks_out(&["calls"], |job| job.sandbox.walls = without(&[Seccomp]));
}

#[test]
fn signals_to_others() {
    let mut bystander = Bystander::new();
    let pid = bystander.0.id().to_string();
    stopped_by(&["kill", &pid], &[&[Processes], &[Seccomp]]);
    // Without any of these walls it would end this test and everything of its user.
    for set in [Walls::ALL, walls(&[Processes]), walls(&[Seccomp])] {
        if set.contains(Processes) || set.contains(Seccomp) {
            held(&["kill-all"], |job| job.sandbox.walls = set);
        }
    }
    assert!(bystander.lives());
}

#[test]
fn a_hundred_thousand_files() {
    if !walls(&[Files]).contains(Files) {
        eprintln!("left out: the number of files is bounded only with a root of its own");
        return;
    }
    stopped_by_limit(&["files", "100000"], |job| job.limits.files = 150_000);
}

#[test]
fn large_files() {
    stopped_by_limit(&["large-file", "100"], |job| job.limits.file_bytes = 200 << 20);
    if walls(&[Files]).contains(Files) {
        stopped_by_limit(&["large-files", "100"], |job| job.limits.file_bytes = 200 << 20);
    }
}

#[test]
fn nothing_is_inherited() {
    // An open file that programs would inherit, as careless libraries leave them.
    let file = fs::File::open("/dev/null").unwrap();
    let _inherited = rustix::io::dup(&file).unwrap();
    held(&["descriptors"], |_| ());
    held(&["environment"], |_| ());
    let more = |job: &mut Job| drop(job.sandbox.environment.insert("A".to_owned(), "b".to_owned()));
    breaks_out(&["environment"], more);
}

#[test]
fn no_root_inside() {
    let root = rustix::process::geteuid().is_root();
    let other = [Identity, Processes].into_iter().any(|wall| walls(&[wall]).contains(wall));
    if other || !root {
        held(&["identity"], |_| ());
    } else {
        eprintln!("left out: a root that may neither change its id nor map it");
    }
    let bare = |job: &mut Job| job.sandbox.walls = Walls::NONE;
    if root { breaks_out(&["identity"], bare) } else { held(&["identity"], bare) }
}

#[test]
fn a_lower_level_is_refused() {
    let mut attack = Attack::new(&["say", "held"], "held\n");
    attack.job.sandbox.walls = walls(&[Identity, Landlock, Seccomp]);
    attack.job.sandbox.minimum = Level::Restricted;
    let verdict = attack.run();
    assert_eq!((verdict.outcome, verdict.walls.level()), (ProgramOutcome::Pass, Level::Restricted));
    attack.job.sandbox.minimum = Level::Isolated;
    let verdict = attack.run();
    assert_eq!(verdict.outcome, ProgramOutcome::Infra);
    assert!(verdict.detail.starts_with("the sandbox reaches level `restricted` here"), "{}", verdict.detail);
    assert_eq!((verdict.passed, verdict.total, verdict.failed), (0, 1, None));
}

#[test]
fn every_wall_that_can_be_had_is_reported() {
    for wall in [Identity, Processes, Network, Files, Ipc, Landlock, Seccomp] {
        let set = without(&[wall]);
        let mut attack = Attack::new(&["say", "held"], "held\n");
        attack.job.sandbox.walls = set;
        let verdict = attack.run();
        assert_eq!((verdict.outcome, verdict.walls), (ProgramOutcome::Pass, set), "{}", verdict.detail);
    }
}

#[test]
fn ends_that_are_not_well() {
    let ended = |words: &[&str]| ended(words, |_| ());
    assert_eq!(ended(&["exit", "3"]), "runtime: it ended with exit code 3");
    assert!(ended(&["crash"]).starts_with("runtime: it ended by signal 11"));
    assert!(ended(&["abort"]).starts_with("runtime: it ended by signal"));
    assert_eq!(ended(&["say", "PASS"]), "wrong: another output than expected");
    held(&["say", "held"], |job| {
        job.limits.wall = Duration::MAX;
        job.limits.cpu = Duration::MAX;
        job.limits.files = 0;
        job.limits.file_bytes = 0;
    });
    let mut missing = Attack::new(&[], "");
    missing.job.program.language =
        Language::Command { file: String::new(), compile: None, run: vec!["/usr/bin/no-such".into()] };
    let verdict = missing.run();
    assert_eq!(verdict.outcome, ProgramOutcome::Infra, "{}", verdict.detail);
}

#[test]
fn compiled_inside() {
    let sum =
        "#include <stdio.h>\nint main(void) { long a, b; scanf(\"%ld %ld\", &a, &b); printf(\"%ld\\n\", a + b); }\n";
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let language = Language::Command {
        file: "main.c".to_owned(),
        compile: Some(words(&["cc", "-O1", "-o", "{program}/main", "{source}"])),
        run: words(&["{program}/main"]),
    };
    let test = |stdin: &str, stdout: &str| Test::Input { stdin: stdin.to_owned(), stdout: stdout.to_owned() };
    let tests = vec![test("1 2", "3"), test("5 5", "11"), test("-1 1", "0")];
    for set in [Walls::ALL, walls(&[Identity, Landlock, Seccomp])] {
        let run = |source: &str, after_failure| {
            let mut job = Job::new(Program { language: language.clone(), source: source.to_owned() }, tests.clone());
            job.sandbox.walls = set;
            job.after_failure = after_failure;
            let verdict = program::run(&job);
            (verdict.outcome, verdict.passed, verdict.failed, verdict.detail)
        };
        let wrong = (ProgramOutcome::Wrong, 1, Some(1), "another output than expected".to_owned());
        assert_eq!(run(sum, program::AfterFailure::Stop), wrong, "{set}");
        let (outcome, passed, failed, _) = run(sum, program::AfterFailure::Continue);
        assert_eq!((outcome, passed, failed), (ProgramOutcome::Wrong, 2, Some(1)), "{set}");
        let (outcome, passed, failed, detail) = run("int main( {", program::AfterFailure::Stop);
        assert_eq!((outcome, passed, failed), (ProgramOutcome::Compile, 0, None), "{set}: {detail}");
        assert!(detail.contains("error"), "{detail}");
        // A compiler reads what its source names.
        let (outcome, .., detail) = run("#include \"/etc/passwd\"\nint main(void) {}", program::AfterFailure::Stop);
        assert_eq!(outcome, ProgramOutcome::Compile);
        assert!(detail.contains("No such file") || detail.contains("Permission denied"), "{detail}");
    }
}

#[test]
fn readable_through_links() {
    let folder = folder();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    for set in [Walls::ALL, walls(&[Identity, Landlock, Seccomp])] {
        for path in [real.join("file"), link.join("file")] {
            breaks_out(&["read", path.to_str().unwrap()], |job| {
                job.sandbox.walls = set;
                job.sandbox.readable.push(path.clone());
            });
        }
    }
    let mut relative = Attack::new(&["say", "held"], "held\n");
    relative.job.sandbox.readable.push("here".into());
    assert_eq!(relative.run().detail, "`here` is to be readable in the sandbox, expected an absolute path");
}

#[test]
fn many_at_a_time() {
    let attack = Attack::new(&["say", "held"], "held\n");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let verdict = attack.run();
                    assert_eq!(verdict.outcome, ProgramOutcome::Pass, "{}", verdict.detail);
                }
            });
        }
    });
}
