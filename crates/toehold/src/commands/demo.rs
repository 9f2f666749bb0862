//! `toehold demo`: the whole job on problems and a base policy that it makes itself.
//!
//! Three methods from the same base and the same problems, each stopped at the same compute, the
//! sampling of the prefixes included.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use toehold_training::{Plan, Recipe};

use crate::commands::evaluate::{self, Measurement, SetMeasurement};
use crate::commands::pretrain::{self, BaseFamily};
use crate::commands::report::{self, Cost, RunRecord};
use crate::commands::{cut, sample, train};
use crate::interrupt::Interrupted;
use crate::prepare::{Prepared, folder_of, plan_text};
use crate::recipes;
use crate::run_folder::beside;
use crate::terminal::{self, Output};

/// Makes hard problems and a small base policy, samples until most problems have one success, and
/// trains from prefixes, plainly, and after imitation, at the same compute.
///
/// Nothing is downloaded. It takes minutes, can be stopped and started again at any moment, and ends
/// in a table and an HTML report.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder to work in
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub out: PathBuf,
    /// Seed of everything
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Problems to learn (and half as many held out)
    #[arg(long, default_value_t = 256)]
    pub problems: usize,
    /// Compute of each method in FLOPs, collecting included
    #[arg(long, default_value_t = 3e12)]
    pub flops: f64,
}

/// The arms, in the order of the table; the first one collects for all.
const ARMS: [&str; 3] = ["prefix-rl", "plain-rl", "sft-then-rl"];

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written, or Ctrl-C.
pub fn run(args: &DemoArgs, output: &Output) -> Result<()> {
    demo(args, output).map_err(|error| match error.is::<Interrupted>() {
        // The stage that was stopped knows only how to go on with itself.
        true => Interrupted { resume: resume_command(args) }.into(),
        false => error,
    })
}

fn resume_command(args: &DemoArgs) -> String {
    let DemoArgs { out, seed, problems, flops } = args;
    format!("toehold demo --out {} --seed {seed} --problems {problems} --flops {flops:e}", out.display())
}

fn demo(args: &DemoArgs, output: &Output) -> Result<()> {
    output.say(format!(
        "toehold demo: {} problems that the base policy solves about once in a thousand tries",
        args.problems
    ));
    for name in ARMS {
        // What cannot be run is refused before anything is made.
        plan(args, name)?;
    }
    let base = args.out.join("base");
    if !base.is_dir() {
        fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
        pretrain::make(&BaseFamily::Chain.spec(args.seed, pretrain::CAREFUL), &base, output)?;
    }

    let [name, others @ ..] = ARMS;
    let folder_of_arm = |name| Ok::<_, anyhow::Error>(folder_of(&plan(args, name)?));
    let first = folder_of_arm(name)?;
    let mut folders = vec![first.clone()];
    arm(plan(args, name)?, output, &|prepared| {
        output.say(format!("{name}: sample"));
        sample::execute(prepared, output)?;
        cut::execute(prepared, output)?;
        for name in others {
            // Before training, so that they get the collection and nothing else.
            share_collection(&first, &folder_of_arm(name)?)?;
        }
        Ok(())
    })?;
    for name in others {
        let folder = folder_of_arm(name)?;
        share_collection(&first, &folder)?;
        arm(plan(args, name)?, output, &|_| Ok(()))?;
        folders.push(folder);
    }

    let runs: Vec<RunRecord> = folders.iter().map(|folder| RunRecord::read(folder)).collect::<Result<_>>()?;
    for run in &runs {
        let cost = run.cost();
        output.event(&serde_json::json!({
            "event": "demo", "arm": run.plan.run.name, "flops": cost.flops, "flops_collection": cost.collection,
            "steps": cost.steps, "measured": run.measured,
        }))?;
    }
    output.data(outcome(&runs.iter().map(ArmOutcome::of).collect::<Vec<_>>()))?;
    let paths: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let path = report::write(&paths, &args.out.join("report.html"))?;
    output.data(format!("report: {}", path.display()))?;
    Ok(())
}

/// Runs one arm from where it is; `collect` gives it its traces. A finished one is left alone: what is
/// finished has been told before.
fn arm(plan: Plan, output: &Output, collect: &dyn Fn(&mut Prepared) -> Result<()>) -> Result<()> {
    let (name, folder) = (plan.run.name.clone(), folder_of(&plan));
    let is_finished = folder.join("evaluation.json").exists()
        && fs::read_to_string(folder.join("recipe.toml")).is_ok_and(|kept| plan_text(&plan).is_ok_and(|p| p == kept));
    if is_finished {
        output.say(format!("{name}: done"));
        return Ok(());
    }
    // A folder that was made with another plan is refused here.
    let mut prepared = Prepared::open(plan, output)?;
    // Training begins once collecting is over, so its events say that it is.
    if !prepared.folder.events().exists() {
        collect(&mut prepared)?;
    }
    if train::finished(&prepared)?.is_none() {
        output.say(format!("{name}: train"));
        train::execute(&prepared, output)?;
    }
    output.say(format!("{name}: evaluate"));
    evaluate::measured(&prepared, output)?;
    Ok(())
}

fn plan(args: &DemoArgs, name: &str) -> Result<Plan> {
    let text = recipes::text(name).with_context(|| format!("the program was built without the recipe {name}"))?;
    let set = vec![
        format!("run.name=\"{name}\""),
        format!("run.folder={}", toml::Value::from(args.out.display().to_string())),
        format!("run.seed={}", args.seed),
        format!("policy.model={}", toml::Value::from(args.out.join("base").display().to_string())),
        format!("problems.seed={}", args.seed),
        format!("problems.count={}", args.problems),
        format!("problems.held_out={}", args.problems.div_ceil(2)),
        format!("train.flops={:e}", args.flops),
        "evaluate.samples=16".to_owned(),
    ];
    Ok(Recipe::parse(text, &set)?.resolve()?)
}

/// Gives the run in `to` the traces that the run in `from` collected, unless it has a store already.
/// They are of the same policy, problems and seed, so sampling them again would give the same rows.
fn share_collection(from: &Path, to: &Path) -> Result<()> {
    let (source, target) = (from.join("traces.db"), to.join("traces.db"));
    if target.exists() || !source.exists() {
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let beside = beside(&target);
    fs::copy(&source, &beside).with_context(|| format!("cannot copy {}", source.display()))?;
    fs::rename(&beside, &target).with_context(|| format!("cannot rename {}", beside.display()))
}

/// What the last table says of an arm.
#[derive(Clone, Debug, Default)]
struct ArmOutcome {
    name: String,
    cost: Cost,
    /// On training problems: the base policy, then this arm's.
    train: [Option<Rate>; 2],
    /// The same on held-out problems.
    held_out: [Option<Rate>; 2],
}

/// A rate with its interval at 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    rate: f64,
    low: f64,
    high: f64,
}

impl ArmOutcome {
    fn of(run: &RunRecord) -> ArmOutcome {
        let ends = run.measured.as_ref().map(|measured| [&measured.before, &measured.after]);
        let rates = |read: &dyn Fn(&Measurement) -> Option<Rate>| ends.map_or([None, None], |ends| ends.map(read));
        ArmOutcome {
            name: run.plan.run.name.clone(),
            cost: run.cost(),
            train: rates(&|at| Rate::of(&at.train)),
            held_out: rates(&|at| at.held_out.as_ref().and_then(Rate::of)),
        }
    }
}

impl Rate {
    /// Attempts at one problem are alike, which Wilson's interval does not know; without any success
    /// resampling problems gives no width. The wider of the two at each side is honest in both cases.
    fn of(set: &SetMeasurement) -> Option<Rate> {
        let (low, high) = set.count.interval();
        let over_problems = set.pass_at_k.iter().find(|at| at.k == 1).map(|at| at.interval);
        let (low, high) = over_problems.map_or((low, high), |at| (low.min(at.low), high.max(at.high)));
        Some(Rate { rate: set.count.rate()?, low, high })
    }

    fn text(rate: Option<Rate>) -> String {
        rate.map_or("–".to_owned(), |at| terminal::percent_with_interval(at.rate, at.low, at.high))
    }
}

fn outcome(arms: &[ArmOutcome]) -> String {
    let mut rows = Vec::new();
    if let Some(first) = arms.first() {
        let missing = || "–".to_owned();
        let (held_out, train) = (Rate::text(first.held_out[0]), Rate::text(first.train[0]));
        rows.push(vec!["base policy".to_owned(), held_out, train, missing(), missing(), missing()]);
    }
    rows.extend(arms.iter().map(|arm| {
        vec![
            arm.name.clone(),
            Rate::text(arm.held_out[1]),
            Rate::text(arm.train[1]),
            terminal::flops(arm.cost.flops),
            terminal::flops(arm.cost.collection),
            terminal::count(arm.cost.steps),
        ]
    }));
    let headers = ["method", "held out", "trained on", "compute", "of it collecting", "steps"];
    format!(
        "\nSuccess: the share of attempts that end in the right answer when nothing is given, with its 95 % interval.\n\
         Compute: all that a method spent, the sampling of its prefixes included.\n\n{}\n\n{}\n",
        terminal::table(&headers, &rows),
        conclusion(arms)
    )
}

/// One sentence that the numbers carry: the best arm on held-out problems, and whom it is clearly ahead
/// of, which is where intervals do not touch.
fn conclusion(arms: &[ArmOutcome]) -> String {
    let mut ranked: Vec<(&str, Rate)> =
        arms.iter().filter_map(|arm| Some((arm.name.as_str(), arm.held_out[1].or(arm.train[1])?))).collect();
    ranked.sort_by(|a, b| b.1.rate.total_cmp(&a.1.rate));
    let [(best, best_rate), others @ ..] = &ranked[..] else { return "Nothing was measured.".to_owned() };
    let (behind, level): (Vec<_>, Vec<_>) = others.iter().partition(|(_, other)| other.high < best_rate.low);
    let names = |arms: &[&(&str, Rate)]| arms.iter().map(|arm| arm.0).collect::<Vec<_>>().join(" and ");
    let seeds = "One seed: another may differ.";
    match (&behind[..], &level[..]) {
        ([], []) => format!("{best} solves {}.", terminal::percent(best_rate.rate)),
        ([], level) => {
            format!("At the same compute there is no clear difference between {best} and {}. {seeds}", names(level))
        }
        (behind, []) => format!("At the same compute {best} is clearly ahead of {}. {seeds}", names(behind)),
        (behind, level) => format!(
            "At the same compute {best} is clearly ahead of {}, and not clearly of {}. {seeds}",
            names(behind),
            names(level)
        ),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{ArmOutcome, Cost, Rate, outcome};

    fn arm(name: &str, held_out: (f64, f64, f64)) -> ArmOutcome {
        let rate = |(rate, low, high)| Some(Rate { rate, low, high });
        ArmOutcome {
            name: name.to_owned(),
            cost: Cost { flops: 2e12, collection: 1e12, steps: 80 },
            train: [rate((0.001, 0.0, 0.01)), rate((0.5, 0.4, 0.6))],
            held_out: [rate((0.0, 0.0, 0.01)), rate(held_out)],
        }
    }

    #[track_caller]
    fn check(arms: &[ArmOutcome], expected: Expect) {
        expected.assert_eq(outcome(arms).trim().rsplit("\n\n").next().unwrap());
    }

    #[test]
    fn the_table() {
        let arms = [arm("prefix-rl", (0.4, 0.35, 0.45)), arm("plain-rl", (0.01, 0.0, 0.02))];
        expect![[r#"

            Success: the share of attempts that end in the right answer when nothing is given, with its 95 % interval.
            Compute: all that a method spent, the sampling of its prefixes included.

            method                  held out           trained on    compute  of it collecting  steps
            ─────────────────────────────────────────────────────────────────────────────────────────
            base policy     0.0 % [0.0, 1.0]     0.1 % [0.0, 1.0]          –                 –      –
            prefix-rl    40.0 % [35.0, 45.0]  50.0 % [40.0, 60.0]  2.0 TFLOP         1.0 TFLOP     80
            plain-rl        1.0 % [0.0, 2.0]  50.0 % [40.0, 60.0]  2.0 TFLOP         1.0 TFLOP     80

            At the same compute prefix-rl is clearly ahead of plain-rl. One seed: another may differ.
        "#]]
        .assert_eq(&outcome(&arms));
    }

    #[test]
    fn conclusions() {
        let (high, middle, low) = ((0.4, 0.35, 0.45), (0.38, 0.3, 0.44), (0.01, 0.0, 0.02));
        check(
            &[arm("a", high), arm("b", low), arm("c", low)],
            expect!["At the same compute a is clearly ahead of b and c. One seed: another may differ."],
        );
        check(
            &[arm("a", low), arm("b", high), arm("c", middle)],
            expect!["At the same compute b is clearly ahead of a, and not clearly of c. One seed: another may differ."],
        );
        check(
            &[arm("a", low), arm("b", low), arm("c", low)],
            expect![
                "At the same compute there is no clear difference between a and b and c. One seed: another may differ."
            ],
        );
        check(&[arm("a", high)], expect!["a solves 40.0 %."]);
        check(&[ArmOutcome::default()], expect!["Nothing was measured."]);
    }
}
