//! Which charts a report has, and how each is read.
//!
//! A section without data has no panels; an arm without data has no line. Training has more steps
//! than a chart has pixels, so what was measured per step is drawn per window of consecutive steps.

use plotters::style::RGBColor;

use super::RenderError;
use super::data::{Arm, BeforeAfter, Estimate, Evaluation, GroupCounts, ReportData, StepPoint, Success, SweepPoint};
use super::frame::{self, ALL_FAIL, ALL_PASS, ARM_COLORS, Axis, BEFORE, Drawn, Frame, MIXED, Mark, Stroke};
use crate::terminal::count;

/// Two panels side by side, in pixels of the page.
const HALF: (u32, u32) = (500, 300);
/// Three panels side by side.
const THIRD: (u32, u32) = (330, 230);
/// At most this many windows of steps in a chart.
const WINDOWS: usize = 60;
/// How strongly an interval is tinted.
const TINT: f64 = 0.16;

/// A chart with its words.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) drawn: Drawn,
    /// One line on how to read it.
    pub(super) caption: String,
}

/// One entry of a section's legend.
pub(super) struct Key {
    pub(super) color: RGBColor,
    pub(super) shape: KeyShape,
    pub(super) label: String,
}

/// What the legend shows beside a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyShape {
    Line,
    Dashes,
    Area,
}

/// The colour of the arm at `index`; after seven they repeat.
pub(super) fn arm_color(index: usize) -> RGBColor {
    ARM_COLORS[index % ARM_COLORS.len()]
}

/// A legend of the arms that `has` data.
pub(super) fn arm_keys(arms: &[Arm], has: impl Fn(&Arm) -> bool) -> Vec<Key> {
    let arms = arms.iter().enumerate().filter(|(_, arm)| has(arm));
    arms.map(|(index, arm)| Key { color: arm_color(index), shape: KeyShape::Line, label: arm.name.clone() }).collect()
}

/// Success against compute: training problems, held-out problems.
pub(super) fn success(data: &ReportData) -> Result<Vec<Panel>, RenderError> {
    type Read = fn(&Evaluation) -> Option<Success>;
    let kinds: [(&str, Read); 2] =
        [("Training problems", |evaluation| evaluation.train), ("Held-out problems", |evaluation| evaluation.held_out)];
    let points = |arm: &Arm, read: Read| -> Vec<(f64, Rate)> {
        let points = arm.evaluations.iter().filter_map(|e| Some((e.flops, Rate::of(read(e)?)?)));
        points.filter(|(flops, _)| flops.is_finite()).collect()
    };
    // Both panels share their axes, so that the eye may go from one to the other.
    let all: Vec<(f64, Rate)> =
        kinds.iter().flat_map(|(_, read)| data.arms.iter().flat_map(|arm| points(arm, *read))).collect();
    let mut panels = Vec::new();
    for (title, read) in kinds {
        let mut bands = Vec::new();
        let mut lines = Vec::new();
        let mut paid_before = false;
        let over_seeds = data.arms.iter().any(|arm| arm.seeds > 1);
        for (index, arm) in data.arms.iter().enumerate() {
            let points = points(arm, read);
            let Some((flops, first)) = points.first().copied() else { continue };
            let color = arm_color(index);
            // Compute before the first step was collection; before a later one, training too.
            let from_start = arm.evaluations.first().is_some_and(|evaluation| evaluation.step == 0);
            if flops > 0.0 && from_start {
                paid_before = true;
                let points = vec![(0.0, first.value), (flops, first.value)];
                lines.push(Mark::Line { points, color, stroke: Stroke::Dashed });
            }
            let stroke = if arm.seeds > 1 { Stroke::Solid } else { Stroke::Dotted };
            push_measured(&mut bands, &mut lines, &points, color, stroke);
        }
        if lines.is_empty() {
            continue;
        }
        bands.append(&mut lines);
        let frame = Frame {
            size: HALF,
            x: Axis::flops("compute, collection included", all.iter().map(|(flops, _)| *flops)),
            y: Axis::percent("success without a prefix, %", all.iter().map(|(_, rate)| rate.top())),
            marks: bands,
        };
        let what = match over_seeds {
            true => {
                "A line is the mean over seeds, its band Student's 95 % interval, and a seed that has ended stays as it is"
            }
            false => "Each dot is an evaluation, its band the 95 % interval",
        };
        let mut caption = format!("{what}; higher and further left is better.");
        if paid_before {
            caption.push_str(" Dashes: compute spent before the first step, on collecting and imitating.");
        }
        panels.push(panel(title, frame, caption)?);
    }
    Ok(panels)
}

/// Success by the share of a prefix that is given, and pass@k: before and after training.
pub(super) fn before_after(data: &ReportData) -> Result<Vec<Panel>, RenderError> {
    let mut panels = Vec::new();
    let sweep = |points: &[SweepPoint]| -> Vec<(f64, Rate)> {
        points.iter().filter_map(|point| Some((point.fraction, Rate::of(point.success)?))).collect()
    };
    let (marks, rates) = compare(&data.arms, |arm| map(&arm.prefix_sweep, sweep));
    if !marks.is_empty() {
        let frame = Frame {
            size: HALF,
            x: Axis::whole_percent("share of the source trace that is given, %"),
            y: Axis::percent("success from there, %", rates.iter().map(|(_, rate)| rate.top())),
            marks,
        };
        let caption = "At 0 % the policy is alone. A rise there shows that what was learnt behind prefixes carried \
                       back to the plain problem.";
        panels.push(panel("Success by prefix given", frame, caption.to_owned())?);
    }
    let estimates = |points: &[Estimate]| -> Vec<(f64, Rate)> {
        let points = points.iter().filter(|point| point.k > 0 && point.value.is_finite());
        points.map(|e| (f64::from(e.k).log2(), Rate { value: e.value, low: e.low, high: e.high })).collect()
    };
    let (marks, rates) = compare(&data.arms, |arm| map(&arm.pass_at_k, estimates));
    if !marks.is_empty() {
        let frame = Frame {
            size: HALF,
            x: Axis::doublings("k, attempts at a problem", rates.iter().map(|(k, _)| *k)),
            y: Axis::percent("pass@k, %", rates.iter().map(|(_, rate)| rate.top())),
            marks,
        };
        let caption = "The chance that one of k attempts succeeds. Where a line meets the one from before at large k, \
                       training sharpened what was already there.";
        panels.push(panel("pass@k", frame, caption.to_owned())?);
    }
    Ok(panels)
}

/// The legend of [`before_after`].
pub(super) fn before_after_keys(arms: &[Arm]) -> Vec<Key> {
    let measured = |arm: &Arm| !(arm.prefix_sweep.after.is_empty() && arm.pass_at_k.after.is_empty());
    let mut keys = arm_keys(arms, measured);
    if arms.iter().any(|arm| !(arm.prefix_sweep.before.is_empty() && arm.pass_at_k.before.is_empty())) {
        keys.push(Key { color: BEFORE, shape: KeyShape::Dashes, label: "before training".to_owned() });
    }
    keys
}

/// What the groups' rewards were, arm by arm, plain and prefixed starts apart.
pub(super) fn groups(data: &ReportData) -> Result<Vec<Panel>, RenderError> {
    type Read = fn(&StepPoint) -> GroupCounts;
    let kinds: [(&str, Read); 2] = [("plain problems", |step| step.plain), ("prefixed problems", |step| step.prefixed)];
    let mut panels = Vec::new();
    for arm in &data.arms {
        for (kind, read) in kinds {
            let steps: Vec<(f64, GroupCounts)> = arm.steps.iter().map(|step| (step.step as f64, read(step))).collect();
            if steps.iter().all(|(_, groups)| total(*groups) == 0) {
                continue;
            }
            let level = |read: fn(&GroupCounts) -> u64| {
                windows(&steps.iter().map(|(step, groups)| (*step, read(groups) as f64)).collect::<Vec<_>>())
            };
            // Stacked from below: mixed on a flat base, since its height is what matters.
            let mixed = level(|groups| groups.mixed);
            let failed = level(|groups| groups.mixed + groups.all_fail);
            let all = level(|groups| groups.mixed + groups.all_fail + groups.all_pass);
            let area = |low: &[Window], high: &[Window], color| {
                let points = high.iter().enumerate().map(|(i, w)| (w.x, low.get(i).map_or(0.0, |l| l.mean), w.mean));
                Mark::Band { points: points.collect(), color, opacity: 1.0 }
            };
            let frame = Frame {
                size: THIRD,
                x: Axis::whole("step", all.iter().map(|window| window.x)),
                y: Axis::from_zero("groups per step", all.iter().map(|window| window.mean)),
                marks: vec![area(&[], &mixed, MIXED), area(&mixed, &failed, ALL_FAIL), area(&failed, &all, ALL_PASS)],
            };
            let title = if data.arms.len() > 1 { format!("{}, {kind}", arm.name) } else { capitalised(kind) };
            panels.push(panel(&title, frame, mixture_caption(&steps))?);
        }
    }
    Ok(panels)
}

/// The legend of [`groups`].
pub(super) fn group_keys() -> Vec<Key> {
    [
        (ALL_PASS, "all succeeded: nothing to learn"),
        (ALL_FAIL, "all failed: nothing to learn"),
        (MIXED, "mixed: teaches"),
    ]
    .map(|(color, label)| Key { color, shape: KeyShape::Area, label: label.to_owned() })
    .into_iter()
    .rev()
    .collect()
}

/// Reward, entropy, gradient and length against steps.
pub(super) fn steps(data: &ReportData) -> Result<Vec<Panel>, RenderError> {
    type Read = fn(&StepPoint) -> Option<f64>;
    let kinds: [(&str, &str, Read, &str); 5] = [
        (
            "Reward",
            "mean reward",
            |s| s.reward,
            "Of all completions of a step, prefixed ones included; not comparable between arms whose starts differ.",
        ),
        (
            "Entropy",
            "nats per token",
            |s| s.entropy,
            "How undecided the policy is; a fall towards 0 means that it stopped exploring.",
        ),
        (
            "Completion length",
            "tokens",
            |s| s.completion_tokens,
            "What the policy wrote itself: prompt and prefix are not counted.",
        ),
        (
            "Gradient norm",
            "norm before clipping",
            |s| s.gradient_norm,
            "Near 0 the batch had nothing to teach; spikes are steps that clipping tamed.",
        ),
        (
            "Gradient deviation",
            "deviation, moving average",
            |s| s.gradient_deviation,
            "How much gradients differ from step to step: the noise that a larger batch would remove.",
        ),
    ];
    let mut panels = Vec::new();
    for (title, unit, read, caption) in kinds {
        let mut bands = Vec::new();
        let mut lines = Vec::new();
        let mut drawn: Vec<Window> = Vec::new();
        for (index, arm) in data.arms.iter().enumerate() {
            let points = arm.steps.iter().filter_map(|s| Some((s.step as f64, read(s).filter(|v| v.is_finite())?)));
            let windows = windows(&points.collect::<Vec<_>>());
            if windows.is_empty() {
                continue;
            }
            let color = arm_color(index);
            if windows.iter().any(|window| window.low < window.high) {
                let points = windows.iter().map(|window| (window.x, window.low, window.high)).collect();
                bands.push(Mark::Band { points, color, opacity: TINT });
            }
            let points = windows.iter().map(|window| (window.x, window.mean)).collect();
            lines.push(Mark::Line { points, color, stroke: Stroke::Solid });
            drawn.extend(windows);
        }
        if lines.is_empty() {
            continue;
        }
        bands.append(&mut lines);
        // One spike must not flatten the rest: bands are cut at twice the highest mean.
        let ceiling = 2.0 * drawn.iter().map(|window| window.mean).fold(f64::MIN, f64::max);
        let heights =
            drawn.iter().flat_map(|w| [w.mean, w.low, if ceiling > 0.0 { w.high.min(ceiling) } else { w.high }]);
        let frame = Frame {
            size: THIRD,
            x: Axis::whole("step", drawn.iter().map(|window| window.x)),
            y: Axis::from_zero(unit, heights),
            marks: bands,
        };
        panels.push(panel(title, frame, caption.to_owned())?);
    }
    Ok(panels)
}

/// How many steps each window of the longest arm has, if more than one.
pub(super) fn window_steps(arms: &[Arm]) -> Option<usize> {
    let longest = arms.iter().map(|arm| arm.steps.len()).max()?;
    Some(longest.div_ceil(WINDOWS)).filter(|steps| *steps > 1)
}

/// A rate with its interval; the value is finite.
#[derive(Clone, Copy, PartialEq)]
struct Rate {
    value: f64,
    low: f64,
    high: f64,
}

impl Rate {
    fn of(success: Success) -> Option<Rate> {
        Some(Rate { value: success.rate()?, low: success.low, high: success.high })
    }

    /// What the axis must have room for.
    fn top(&self) -> f64 {
        if self.high.is_finite() { self.value.max(self.high) } else { self.value }
    }
}

/// Consecutive steps as one point.
struct Window {
    x: f64,
    mean: f64,
    low: f64,
    high: f64,
}

/// At most [`WINDOWS`] windows of equally many finite points (the last may have fewer).
fn windows(points: &[(f64, f64)]) -> Vec<Window> {
    let size = points.len().div_ceil(WINDOWS).max(1);
    let window = |points: &[(f64, f64)]| {
        let n = points.len() as f64;
        Window {
            x: points.iter().map(|point| point.0).sum::<f64>() / n,
            mean: points.iter().map(|point| point.1).sum::<f64>() / n,
            low: points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min),
            high: points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max),
        }
    };
    points.chunks(size).map(window).collect()
}

fn map<T>(both: &BeforeAfter<T>, read: impl Fn(&[T]) -> Vec<(f64, Rate)>) -> BeforeAfter<(f64, Rate)> {
    BeforeAfter { before: read(&both.before), after: read(&both.after) }
}

/// The marks that compare all arms, and every point in them. Arms that began as one policy share one
/// grey line; otherwise each has its own dashes.
fn compare(arms: &[Arm], read: impl Fn(&Arm) -> BeforeAfter<(f64, Rate)>) -> (Vec<Mark>, Vec<(f64, Rate)>) {
    let measured: Vec<BeforeAfter<(f64, Rate)>> = arms.iter().map(read).collect();
    let mut befores = measured.iter().map(|both| &both.before).filter(|before| !before.is_empty());
    let first = befores.next();
    let shared = first.is_some_and(|first| befores.all(|before| before == first));
    let (mut bands, mut lines, mut all) = (Vec::new(), Vec::new(), Vec::new());
    if let (true, Some(before)) = (shared, first) {
        push_measured(&mut bands, &mut lines, before, BEFORE, Stroke::Dashed);
    }
    for (index, both) in measured.iter().enumerate() {
        if !shared {
            push_measured(&mut bands, &mut lines, &both.before, arm_color(index), Stroke::Dashed);
        }
        push_measured(&mut bands, &mut lines, &both.after, arm_color(index), Stroke::Dotted);
        all.extend(both.before.iter().chain(&both.after).copied());
    }
    bands.append(&mut lines);
    (bands, all)
}

/// A line with its band of intervals, nothing for no points.
fn push_measured(
    bands: &mut Vec<Mark>,
    lines: &mut Vec<Mark>,
    points: &[(f64, Rate)],
    color: RGBColor,
    stroke: Stroke,
) {
    if points.is_empty() {
        return;
    }
    let band = points.iter().map(|(x, rate)| (*x, rate.low, rate.high)).collect();
    bands.push(Mark::Band { points: band, color, opacity: TINT });
    lines.push(Mark::Line { points: points.iter().map(|(x, rate)| (*x, rate.value)).collect(), color, stroke });
}

fn mixture_caption(steps: &[(f64, GroupCounts)]) -> String {
    let size = steps.len().div_ceil(WINDOWS).max(1);
    let share = |steps: &[(f64, GroupCounts)]| {
        let mixed: u64 = steps.iter().map(|(_, groups)| groups.mixed).sum();
        let all: u64 = steps.iter().map(|(_, groups)| total(*groups)).sum();
        format!("{} of {}", count(mixed), count(all))
    };
    if steps.len() == 1 {
        return format!("{} groups were mixed.", share(steps));
    }
    let (first, last) = (&steps[..size], &steps[steps.len() - size..]);
    let steps = if size == 1 { "step".to_owned() } else { format!("{size} steps") };
    format!("Mixed in the first {steps}: {} groups; in the last: {}.", share(first), share(last))
}

fn total(groups: GroupCounts) -> u64 {
    groups.all_fail + groups.mixed + groups.all_pass
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn panel(title: &str, frame: Frame, caption: String) -> Result<Panel, RenderError> {
    Ok(Panel { title: title.to_owned(), drawn: frame::draw(title, &frame)?, caption })
}
