//! The page of `toehold theory`: completions by horizon, on two scales, and the table.
//!
//! An exponential is a line where only the height is logarithmic, a power where the horizon is, too; so
//! the same numbers are drawn both ways. Bounds are drawn as far as the measured part of the chart goes.

use maud::{DOCTYPE, PreEscaped, html};
use toehold_training::theory::{Row, Separation, Spread, bounds};

use super::RenderError;
use super::chart::{Key, KeyShape};
use super::data::PlainTable;
use super::frame::{self, ARM_COLORS, Axis, BEFORE, Drawn, Frame, Mark, Stroke};
use super::html::{STYLE, plain_table, swatch};
use crate::terminal::count;

const PREFIX_RL: plotters::style::RGBColor = ARM_COLORS[0];
const ON_POLICY: plotters::style::RGBColor = ARM_COLORS[1];
const SIZE: (u32, u32) = (500, 340);

/// How a horizon is placed from left to right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// The page as one HTML document; `findings` are its sentences and `table` its numbers in words.
///
/// # Errors
/// When the plotting library refuses a chart; no data is known to make it.
pub fn render_theory(found: &Separation, findings: &[String], table: &PlainTable) -> Result<String, RenderError> {
    let cap = count(found.settings.cap);
    let keys = [
        Key { color: ON_POLICY, shape: KeyShape::Line, label: "on-policy NPG".to_owned() },
        Key { color: PREFIX_RL, shape: KeyShape::Line, label: "PrefixRL-NPG".to_owned() },
        Key { color: ON_POLICY, shape: KeyShape::Dashes, label: "at least, without a stored trace".to_owned() },
        Key { color: BEFORE, shape: KeyShape::Dashes, label: format!("the cap of {cap} completions") },
    ];
    let panels = [
        ("By horizon", Scale::Linear, "What multiplies with each unit of horizon is a straight line here."),
        ("By the logarithm of the horizon", Scale::Logarithmic, "What grows as a power of the horizon is one here."),
    ];
    let panels: Vec<(&str, Drawn, &str)> = panels
        .into_iter()
        .map(|(title, scale, caption)| Ok((title, draw(title, found, scale)?, caption)))
        .collect::<Result<_, RenderError>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { "toehold theory" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { "toehold theory" }
                    h1 { "Completions to find a hidden string" }
                    @for finding in findings { p.lead { (finding) } }
                }
                main {
                    section {
                        h2 { "Exponential against polynomial" }
                        p.lead {
                            "Lines are medians over seeds, bands reach from quartile to quartile; heights are \
                             logarithmic. The bound on PrefixRL-NPG is not drawn: the table has it."
                        }
                        ul.legend { @for key in &keys { li { (swatch(key.color, key.shape)) (key.label) } } }
                        div class="panels halves" {
                            @for (title, drawn, caption) in &panels {
                                figure {
                                    h3 { (title) }
                                    svg viewBox=(drawn.view_box) role="img" aria-label=(title) {
                                        (PreEscaped(&drawn.content))
                                    }
                                    figcaption { (caption) }
                                }
                            }
                        }
                    }
                    section {
                        h2 { "The numbers" }
                        (plain_table(table))
                    }
                }
                footer { p { "This file is complete in itself: no network, no scripts." } }
            }
        }
    };
    Ok(page.into_string())
}

/// One method's completions in a row.
type Read = fn(&Row) -> Spread;

fn draw(title: &str, found: &Separation, scale: Scale) -> Result<Drawn, RenderError> {
    let place = |horizon: u32| match scale {
        Scale::Linear => f64::from(horizon),
        Scale::Logarithmic => f64::from(horizon).log2(),
    };
    let cap = found.settings.cap as f64;
    let measured = found.rows.iter().flat_map(|row| [row.on_policy, row.prefix_rl]);
    let most = measured.filter_map(|spread| spread.high).max().map_or(cap, |most| cap.max(most as f64));
    let ceiling = 4.0 * most;
    let (first, last) = match (found.rows.first(), found.rows.last()) {
        (Some(first), Some(last)) => (first.horizon, last.horizon),
        _ => (1, 1),
    };

    let mut marks = Vec::new();
    let methods: [(_, Read); 2] = [(ON_POLICY, |row| row.on_policy), (PREFIX_RL, |row| row.prefix_rl)];
    for (color, spread) in methods {
        let point = |row: &Row| {
            let (low, high) = (spread(row).low?, spread(row).high.map_or(cap, |high| high as f64));
            Some((place(row.horizon), (low as f64).log2(), high.log2()))
        };
        let points = found.rows.iter().filter_map(point).collect();
        marks.push(Mark::Band { points, color, opacity: 0.16 });
    }
    let ends = [place(first), place(last)].map(|x| (x, cap.log2()));
    marks.push(Mark::Line { points: ends.to_vec(), color: BEFORE, stroke: Stroke::Dashed });
    let least = |horizon: u32| {
        let settings = &found.settings;
        bounds::least_completions(settings.alphabet, horizon, settings.target / 2.0)
    };
    let lower = (first..=last).map(|horizon| (horizon, least(horizon))).filter(|(_, least)| *least <= ceiling);
    let points = lower.map(|(horizon, least)| (place(horizon), least.log2())).collect();
    marks.push(Mark::Line { points, color: ON_POLICY, stroke: Stroke::Dashed });
    for (color, spread) in methods {
        let point = |row: &Row| Some((place(row.horizon), (spread(row).median? as f64).log2()));
        let points = found.rows.iter().filter_map(point).collect();
        marks.push(Mark::Line { points, color, stroke: Stroke::Dotted });
    }

    let horizons = found.rows.iter().map(|row| place(row.horizon));
    let x = match scale {
        Scale::Linear => Axis::whole("horizon", horizons),
        Scale::Logarithmic => Axis::doublings("horizon", horizons),
    };
    let y = Axis::doublings("completions", [0.0, ceiling.log2()]);
    frame::draw(title, &Frame { size: SIZE, x, y, marks })
}
