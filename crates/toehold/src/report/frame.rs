//! How one chart is drawn: axes, lines, bands and areas, as inline SVG by plotters.
//!
//! A [`Frame`] is plain data; [`draw`] filters what is not finite. Colours in the SVG are those for a
//! light page; the style sheet names the same values to replace them on a dark one (see [`INK`] and
//! [`ARM_COLORS`]), so the two files change together, which a test asserts.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::RenderError;
use crate::terminal::{count, engineering};

/// Text in a chart.
pub(super) const INK: RGBColor = RGBColor(0x5A, 0x64, 0x72);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(0xE4, 0xE7, 0xEC);
/// The axis at the bottom.
pub(super) const AXIS: RGBColor = RGBColor(0xA9, 0xB1, 0xBC);
/// A measurement before training that all arms share.
pub(super) const BEFORE: RGBColor = RGBColor(0x7D, 0x86, 0x94);
/// Okabe and Ito's palette, which colour-blind readers can tell apart.
pub(super) const ARM_COLORS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x3B, 0x42, 0x4D),
];
/// Groups that teach.
pub(super) const MIXED: RGBColor = RGBColor(0x2A, 0x8C, 0x82);
/// Groups in which every completion failed.
pub(super) const ALL_FAIL: RGBColor = RGBColor(0xB4, 0xBB, 0xC6);
/// Groups in which every completion succeeded.
pub(super) const ALL_PASS: RGBColor = RGBColor(0xDD, 0xE1, 0xE7);

/// plotters' SVG has whole pixels only, so everything is drawn this many times too large.
const SCALE: u32 = 4;
/// Size of all text, in the page's pixels.
const TEXT: f64 = 12.0;

/// One chart, as data.
pub(super) struct Frame {
    /// Width and height in the page's pixels at full size.
    pub(super) size: (u32, u32),
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Drawn in this order.
    pub(super) marks: Vec<Mark>,
}

/// An axis with its ticks; `low < high`, both finite.
pub(super) struct Axis {
    label: String,
    low: f64,
    high: f64,
    /// What coordinates are multiplied with before they are placed.
    factor: f64,
    ticks: Vec<(f64, String)>,
}

/// Something drawn in a chart, in the data's units.
pub(super) enum Mark {
    /// A line through points, from left to right.
    Line { points: Vec<(f64, f64)>, color: RGBColor, stroke: Stroke },
    /// The space between a lower and an upper line: `(x, low, high)`.
    Band { points: Vec<(f64, f64, f64)>, color: RGBColor, opacity: f64 },
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// A plain line.
    Solid,
    /// A line with a dot at each point: few, measured points.
    Dotted,
    /// Dashes: what is there for comparison.
    Dashed,
}

impl Axis {
    /// From 0 (or the lowest value, if negative) to a round number above the values.
    pub(super) fn from_zero(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let (low, high) = (low.min(0.0), high.max(0.0));
        let step = nice_step(high - low, 4);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let high = if high > low { high } else { low + step };
        Axis { label: label.to_owned(), low, high, factor: 1.0, ticks: ticks(low, high, step) }
    }

    /// Rates in [0, 1] as percentages, from 0.
    pub(super) fn percent(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let values = values.into_iter().map(|rate| 100.0 * rate.clamp(0.0, 1.0));
        let axis = Axis::from_zero(label, values);
        Axis { factor: 100.0, ..axis }
    }

    /// All of [0, 1] as percentages.
    pub(super) fn whole_percent(label: &str) -> Axis {
        Axis { factor: 100.0, ..Axis::from_zero(label, [100.0]) }
    }

    /// Compute from 0, in the unit that its largest value is best read in.
    pub(super) fn flops(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (_, high) = bounds(values).unwrap_or((0.0, 1.0));
        let (scale, prefix) = engineering(high);
        let high = if high > 0.0 { high / scale } else { 1.0 };
        let ticks = ticks(0.0, high, nice_step(high, 6));
        Axis { label: format!("{label}, {prefix}FLOP"), low: 0.0, high, factor: 1.0 / scale, ticks }
    }

    /// Whole numbers from the least to the largest value.
    pub(super) fn whole(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let (low, high) = if high > low { (low, high) } else { (low - 1.0, high + 1.0) };
        let step = nice_step(high - low, 5).max(1.0);
        Axis { label: label.to_owned(), low, high, factor: 1.0, ticks: ticks(low, high, step) }
    }

    /// Doublings: coordinates are base-2 logarithms, ticks the numbers themselves.
    pub(super) fn doublings(label: &str, logarithms: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = bounds(logarithms).unwrap_or((0.0, 1.0));
        let (low, high) = (low.floor().clamp(0.0, 62.0), high.ceil().clamp(0.0, 63.0));
        let high = if high > low { high } else { low + 1.0 };
        let every = ((high - low) / 8.0).ceil().max(1.0) as usize;
        let ticks = (low as u32..=high as u32).step_by(every).map(|power| (f64::from(power), count(1 << power)));
        Axis { label: label.to_owned(), low, high, factor: 1.0, ticks: ticks.collect() }
    }

    fn place(&self, value: f64) -> f64 {
        (value * self.factor).clamp(self.low, self.high)
    }

    fn coordinate(&self) -> Ticked {
        Ticked { range: (self.low..self.high).into(), ticks: self.ticks.iter().map(|tick| tick.0).collect() }
    }

    fn tick_label(&self, at: f64) -> String {
        self.ticks.iter().find(|tick| tick.0 == at).map(|tick| tick.1.clone()).unwrap_or_default()
    }
}

/// The chart as an `<svg>` element's content, with the view box it is drawn in.
pub(super) struct Drawn {
    pub(super) view_box: String,
    pub(super) content: String,
}

/// Draws `frame`; marks without finite points are left out.
pub(super) fn draw(title: &str, frame: &Frame) -> Result<Drawn, RenderError> {
    let mut svg = String::new();
    draw_into(&mut svg, frame)
        .map_err(|error| RenderError::Chart { title: title.to_owned(), reason: error.to_string() })?;
    // The element itself is written by the page, without a fixed size and with a label.
    let content = svg.split_once('>').map_or("", |(_, rest)| rest).trim();
    let content = content.strip_suffix("</svg>").unwrap_or(content).to_owned();
    Ok(Drawn { view_box: format!("0 0 {} {}", frame.size.0 * SCALE, frame.size.1 * SCALE), content })
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw_into(svg: &mut String, frame: &Frame) -> DrawResult {
    let size = (frame.size.0 * SCALE, frame.size.1 * SCALE);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    // The library divides font sizes by 1.24 when it writes them.
    let font = ("sans-serif", TEXT * 1.24 * f64::from(SCALE)).into_font();
    let text = TextStyle::from(font).color(&INK);
    let left = text.pos(Pos::new(HPos::Left, VPos::Top));
    root.draw_text(&frame.y.label, &left, (0, px(1.0)))?;

    let widest = frame.y.ticks.iter().map(|tick| tick.1.chars().count()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(&root)
        .margin_top(px(26.0))
        .margin_right(px(16.0))
        .x_label_area_size(px(42.0))
        .y_label_area_size(px(10.0 + 0.58 * TEXT * widest as f64))
        .build_cartesian_2d(frame.x.coordinate(), frame.y.coordinate())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        // The grid does for the axis on the left; the one at the bottom is drawn last.
        .axis_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(SCALE))
        .light_line_style(TRANSPARENT)
        .set_all_tick_mark_size(px(4.0))
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_label_formatter(&|at| frame.x.tick_label(*at))
        .y_label_formatter(&|at| frame.y.tick_label(*at))
        .x_desc(frame.x.label.clone())
        .draw()?;

    for mark in &frame.marks {
        match mark {
            Mark::Band { points, color, opacity } => {
                let points: Vec<(f64, f64, f64)> = points
                    .iter()
                    .filter(|(x, low, high)| x.is_finite() && low.is_finite() && high.is_finite())
                    .map(|(x, low, high)| (frame.x.place(*x), frame.y.place(*low), frame.y.place(*high)))
                    .collect();
                let style = color.mix(*opacity);
                if let [(x, low, high)] = points[..] {
                    // One point has no width: an upright stroke shows its span.
                    chart.draw_series([PathElement::new(
                        vec![(x, low), (x, high)],
                        color.mix(*opacity).stroke_width(3 * SCALE),
                    )])?;
                    continue;
                }
                let upper = points.iter().map(|(x, _, high)| (*x, *high));
                let lower = points.iter().rev().map(|(x, low, _)| (*x, *low));
                let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
                if !outline.is_empty() {
                    chart.draw_series([Polygon::new(outline, style.filled())])?;
                }
            }
            Mark::Line { points, color, stroke } => {
                let points: Vec<(f64, f64)> = points
                    .iter()
                    .filter(|(x, y)| x.is_finite() && y.is_finite())
                    .map(|(x, y)| (frame.x.place(*x), frame.y.place(*y)))
                    .collect();
                if points.is_empty() {
                    continue;
                }
                if *stroke == Stroke::Dotted || points.len() == 1 {
                    let dots = points.iter().map(|point| Circle::new(*point, px(2.5), color.filled()));
                    chart.draw_series(dots)?;
                }
                if *stroke == Stroke::Dashed {
                    let style = color.stroke_width(px(1.5) as u32);
                    chart.draw_series(DashedLineSeries::new(points, px(5.0), px(4.0), style))?;
                } else {
                    chart.draw_series(LineSeries::new(points, color.stroke_width(px(2.0) as u32)))?;
                }
            }
        }
    }
    let zero = 0f64.clamp(frame.y.low, frame.y.high);
    let base = vec![(frame.x.low, zero), (frame.x.high, zero)];
    chart.draw_series([PathElement::new(base, AXIS.stroke_width(SCALE))])?;
    drop(chart);
    root.present()?;
    Ok(())
}

/// A range with ticks of our own choice.
struct Ticked {
    range: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

/// The page's pixels as the drawing's.
fn px(length: f64) -> i32 {
    (length * f64::from(SCALE)).round() as i32
}

fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |found, value| {
        let (low, high) = found.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// 1, 2, 2.5 or 5 times a power of ten, so that `about` steps or a few less make up `span`.
fn nice_step(span: f64, about: u32) -> f64 {
    let raw = span / f64::from(about);
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= 0.999 * raw)
        .unwrap_or(10.0 * power)
}

fn ticks(low: f64, high: f64, step: f64) -> Vec<(f64, String)> {
    let is_whole = |decimals: &i32| {
        let shifted = step * 10f64.powi(*decimals);
        (shifted - shifted.round()).abs() < 1e-6 * shifted
    };
    let decimals = (0..20).find(is_whole).unwrap_or(20) as usize;
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    let ticks = ((last - first) as u32).min(20);
    (0..=ticks)
        .map(|index| {
            let value = (first + f64::from(index)) * step;
            // Adding 0 turns a negative zero into a positive one.
            (value.clamp(low, high) + 0.0, tick_text(value + 0.0, step, decimals))
        })
        .collect()
}

fn tick_text(value: f64, step: f64, decimals: usize) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if step < 1e-4 || value.abs() >= 1e9 {
        format!("{value:.1e}").replace(".0e", "e")
    } else if decimals == 0 {
        format!("{}{}", if value < 0.0 { "-" } else { "" }, count(value.abs().round() as u64))
    } else {
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{
        ALL_FAIL, ALL_PASS, ARM_COLORS, AXIS, Axis, BEFORE, Frame, GRID, INK, MIXED, Mark, RGBColor, Stroke, draw,
    };

    #[track_caller]
    fn check(axis: &Axis, expected: Expect) {
        let ticks: Vec<&str> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
        expected.assert_eq(&format!("{}: {} to {}: {}", axis.label, axis.low, axis.high, ticks.join(" ")));
    }

    #[test]
    fn axes_from_zero() {
        check(&Axis::from_zero("tokens", [3.0, 118.0]), expect!["tokens: 0 to 150: 0 50 100 150"]);
        check(&Axis::from_zero("reward", [-0.13, 0.61]), expect!["reward: -0.2 to 0.8: -0.2 0 0.2 0.4 0.6 0.8"]);
        check(&Axis::from_zero("norm", [2e-6, 7e-6]), expect!["norm: 0 to 0.000008: 0 2e-6 4e-6 6e-6 8e-6"]);
        check(&Axis::from_zero("nothing", []), expect!["nothing: 0 to 1: 0 0.25 0.50 0.75 1.00"]);
        check(&Axis::from_zero("zeros", [0.0, 0.0]), expect!["zeros: 0 to 1: 0 1"]);
        check(&Axis::from_zero("broken", [f64::NAN, f64::INFINITY, 2.0]), expect!["broken: 0 to 2: 0 0.5 1.0 1.5 2.0"]);
        check(
            &Axis::from_zero("huge", [12_345_678.0]),
            expect!["huge: 0 to 15000000: 0 5,000,000 10,000,000 15,000,000"],
        );
    }

    #[test]
    fn axes_of_rates() {
        check(&Axis::percent("success, %", [0.004, 0.031]), expect!["success, %: 0 to 4: 0 1 2 3 4"]);
        check(&Axis::percent("success, %", [0.43]), expect!["success, %: 0 to 60: 0 20 40 60"]);
        check(&Axis::percent("success, %", [1.2]), expect!["success, %: 0 to 100: 0 25 50 75 100"]);
        check(&Axis::whole_percent("share, %"), expect!["share, %: 0 to 100: 0 25 50 75 100"]);
    }

    #[test]
    fn axes_of_compute() {
        check(&Axis::flops("compute", [0.0, 5.2e15]), expect!["compute, PFLOP: 0 to 5.2: 0 1 2 3 4 5"]);
        check(&Axis::flops("compute", [740e9]), expect!["compute, GFLOP: 0 to 740: 0 200 400 600"]);
        check(&Axis::flops("compute", []), expect!["compute, FLOP: 0 to 1: 0 0.2 0.4 0.6 0.8 1.0"]);
    }

    #[test]
    fn axes_of_whole_numbers() {
        check(&Axis::whole("step", [1.0, 400.0]), expect!["step: 1 to 400: 100 200 300 400"]);
        check(&Axis::whole("step", [1.0, 3.0]), expect!["step: 1 to 3: 1 2 3"]);
        check(&Axis::whole("step", [7.0]), expect!["step: 6 to 8: 6 7 8"]);
        check(&Axis::doublings("k", [0.0, 6.0]), expect!["k: 0 to 6: 1 2 4 8 16 32 64"]);
        check(&Axis::doublings("k", [0.0, 12.3]), expect!["k: 0 to 13: 1 4 16 64 256 1,024 4,096"]);
        check(&Axis::doublings("k", [0.0]), expect!["k: 0 to 1: 1 2"]);
    }

    #[test]
    fn points_that_are_not_finite_leave_no_mark() {
        let drawn = |line: &[(f64, f64)], band: &[(f64, f64, f64)]| {
            let marks = vec![
                Mark::Band { points: band.to_vec(), color: MIXED, opacity: 0.5 },
                Mark::Line { points: line.to_vec(), color: BEFORE, stroke: Stroke::Dotted },
            ];
            let (x, y) = (Axis::from_zero("x", [2.0]), Axis::from_zero("y", [2.0]));
            draw("test", &Frame { size: (300, 200), x, y, marks }).unwrap().content
        };
        let (good_line, good_band) = ([(0.0, 1.0), (1.0, 2.0)], [(0.0, 0.5, 1.5), (1.0, 1.0, 2.0)]);
        let clean = drawn(&good_line, &good_band);
        assert_ne!(clean, drawn(&[], &[]));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let line = [good_line[0], (bad, 1.0), (0.5, bad), good_line[1]];
            let band = [good_band[0], (bad, 0.0, 1.0), (0.5, bad, 1.0), (0.5, 1.0, bad), good_band[1]];
            assert_eq!(drawn(&line, &band), clean);
        }
    }

    #[test]
    fn the_style_sheet_knows_every_colour_of_the_charts() {
        let style = include_str!("style.css");
        let colors = [INK, GRID, AXIS, BEFORE, MIXED, ALL_FAIL, ALL_PASS].into_iter().chain(ARM_COLORS);
        for RGBColor(red, green, blue) in colors {
            let name = format!("{red:02X}{green:02X}{blue:02X}");
            let light = format!("--{name}: #{name};");
            assert!(style.contains(&light), "style.css has no line {light}");
            assert_eq!(style.matches(&format!("--{name}: ")).count(), 2, "style.css has no dark value for {name}");
            for property in ["fill", "stroke"] {
                let rule = format!("svg [{property}=\"#{name}\"] {{ {property}: var(--{name}) }}");
                assert!(style.contains(&rule), "style.css has no rule {rule}");
            }
        }
    }
}
