//! The page around the charts: sections, tables, traces. Everything that comes from data is escaped
//! by the template language; only the charts and the style sheet go in as they are.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::style::RGBColor;
use toehold_verifier::Outcome;

use super::RenderError;
use super::chart::{self, Key, KeyShape, Panel};
use super::data::{Collection, Estimate, HeadlineRow, PlainTable, ReportData, Success, TraceView};
use super::frame::{BEFORE, MIXED};
use crate::terminal::{count, flops, percent};

pub(super) const STYLE: &str = include_str!("style.css");

/// What stands for a number that is not there.
const MISSING: &str = "–";

/// One part of the page, with the name by which the top links to it.
struct Section {
    id: &'static str,
    title: &'static str,
    lead: String,
    body: Markup,
}

/// The whole page.
pub(super) fn page(data: &ReportData) -> Result<String, RenderError> {
    let sections: Vec<Section> = [
        headline(data),
        comparison(data),
        success(data)?,
        before_after(data)?,
        groups(data)?,
        steps(data)?,
        collections(&data.collections),
        outcomes(data.outcomes.as_ref(), &data.detail),
        traces(&data.traces, &data.detail),
        recipe(&data.recipe),
    ]
    .into_iter()
    .flatten()
    .collect();
    let title = if data.title.is_empty() { "toehold report" } else { &data.title };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { "toehold report" }
                    h1 { (title) }
                    @if !data.summary.is_empty() { p.summary { (data.summary.replace(" %", "\u{a0}%")) } }
                    @if sections.len() > 1 {
                        nav { @for section in &sections { a href={ "#" (section.id) } { (section.title) } " " } }
                    }
                }
                main {
                    @for section in &sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            @if !section.lead.is_empty() { p.lead { (section.lead) } }
                            (section.body)
                        }
                    }
                }
                footer {
                    @if !data.facts.is_empty() {
                        dl { @for fact in &data.facts { div { dt { (fact.name) } dd { (fact.value) } } } }
                    }
                    p { "Intervals are at 95 %. This file is complete in itself: no network, no scripts." }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn headline(data: &ReportData) -> Option<Section> {
    let rows = &data.headline;
    if rows.is_empty() {
        return None;
    }
    let has_train = rows.iter().any(|row| row.train.is_some());
    let has_held_out = rows.iter().any(|row| row.held_out.is_some());
    let mut ks: Vec<u32> = rows.iter().flat_map(|row| row.pass_at_k.iter().map(|estimate| estimate.k)).collect();
    ks.sort_unstable();
    ks.dedup();
    let color = |row: &HeadlineRow| data.arms.iter().position(|arm| arm.name == row.name).map(chart::arm_color);
    let body = html! {
        div.scroll {
            table.headline {
                thead {
                    tr {
                        th { "" }
                        @if has_train { th { "Training" } }
                        @if has_held_out { th { "Held out" } }
                        th { "Compute" }
                        th { "Steps" }
                        @for k in &ks { th { "pass@" (k) } }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" {
                                span.name { (swatch(color(row).unwrap_or(BEFORE), KeyShape::Line)) (row.name) }
                            }
                            @if has_train { (success_cell(row.train, color(row))) }
                            @if has_held_out { (success_cell(row.held_out, color(row))) }
                            (compute_cell(row))
                            td { (if row.steps > 0 { count(row.steps) } else { MISSING.to_owned() }) }
                            @for k in &ks { (estimate_cell(row.pass_at_k.iter().find(|estimate| estimate.k == *k))) }
                        }
                    }
                }
            }
        }
    };
    let over = if data.arms.iter().any(|arm| arm.seeds > 1) { " over seeds" } else { "" };
    Some(Section {
        id: "outcome",
        title: "Outcome",
        lead: format!(
            "Success without any prefix, and pass@k on held-out problems where there are any, at the end of \
             training, with 95 % intervals{over}. Compute is all that was spent, finding prefixes included, \
             evaluation not."
        ),
        body,
    })
}

fn comparison(data: &ReportData) -> Option<Section> {
    if data.comparison.is_empty() {
        return None;
    }
    let body = html! { @for table in &data.comparison { (plain_table(table)) } };
    Some(Section { id: "seeds", title: "Over seeds", lead: String::new(), body })
}

/// A table of text with the sentence above it.
pub(super) fn plain_table(table: &PlainTable) -> Markup {
    html! {
        @if !table.lead.is_empty() { p.lead { (table.lead) } }
        div.scroll {
            table.plain {
                thead { tr { @for header in &table.headers { th { (header) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn compute_cell(row: &HeadlineRow) -> Markup {
    let spent = if row.flops > 0.0 { flops(row.flops) } else { MISSING.to_owned() };
    let share = row.flops_collection / row.flops;
    html! {
        td {
            (spent)
            @if share > 0.0 && share <= 1.0 {
                small { "of it collecting" }
                small { (flops(row.flops_collection)) ", " (percent(share)) }
            }
        }
    }
}

fn success_cell(success: Option<Success>, color: Option<RGBColor>) -> Markup {
    let Some((success, rate)) = success.and_then(|success| Some((success, success.rate()?))) else {
        return html! { td.none { (MISSING) } };
    };
    html! {
        td {
            b { (percent(rate)) }
            (range(rate, success.low, success.high, color.unwrap_or(BEFORE)))
            small { (bounds(success.low, success.high)) }
            small { (count(success.successes)) " / " (count(success.attempts)) }
        }
    }
}

fn estimate_cell(estimate: Option<&Estimate>) -> Markup {
    let Some(estimate) = estimate.filter(|estimate| estimate.value.is_finite()) else {
        return html! { td.none { (MISSING) } };
    };
    html! { td { b { (percent(estimate.value)) } small { (bounds(estimate.low, estimate.high)) } } }
}

fn bounds(low: f64, high: f64) -> String {
    let (low, high) = (100.0 * low, 100.0 * high);
    if low.is_finite() && high.is_finite() { format!("{low:.1} – {high:.1}") } else { String::new() }
}

/// A rate on a line from 0 to 100 %, its interval shaded.
fn range(rate: f64, low: f64, high: f64, color: RGBColor) -> Markup {
    let at = 100.0 * rate.clamp(0.0, 1.0);
    let (low, high) = if low <= high { (100.0 * low.clamp(0.0, 1.0), 100.0 * high.clamp(0.0, 1.0)) } else { (at, at) };
    html! {
        span.range aria-hidden="true" style={ "--c:" (variable(color)) } {
            i.interval style={ "left:" (format!("{low:.2}")) "%;width:" (format!("{:.2}", high - low)) "%" } {}
            i.at style={ "left:" (format!("{at:.2}")) "%" } {}
        }
    }
}

fn success(data: &ReportData) -> Result<Option<Section>, RenderError> {
    let keys = chart::arm_keys(&data.arms, |arm| !arm.evaluations.is_empty());
    Ok(charts("success", "Success against compute", String::new(), keys, "halves", chart::success(data)?))
}

fn before_after(data: &ReportData) -> Result<Option<Section>, RenderError> {
    let keys = chart::before_after_keys(&data.arms);
    Ok(charts("change", "Before and after", String::new(), keys, "halves", chart::before_after(data)?))
}

fn groups(data: &ReportData) -> Result<Option<Section>, RenderError> {
    let lead = "A group whose completions all fail or all succeed has no advantage: its compute is lost.";
    let lead = with_detail(lead, &data.detail);
    Ok(charts("groups", "Which groups taught", lead, chart::group_keys(), "thirds", chart::groups(data)?))
}

fn steps(data: &ReportData) -> Result<Option<Section>, RenderError> {
    let lead = chart::window_steps(&data.arms).map_or(String::new(), |steps| {
        format!(
            "Lines are means over up to {steps} consecutive steps; the tint spans the least and the largest of them."
        )
    });
    let lead = with_detail(&lead, &data.detail);
    let keys = chart::arm_keys(&data.arms, |arm| !arm.steps.is_empty());
    Ok(charts("steps", "Step by step", lead, keys, "thirds", chart::steps(data)?))
}

fn with_detail(lead: &str, detail: &str) -> String {
    format!("{lead} {detail}").trim().to_owned()
}

fn charts(
    id: &'static str,
    title: &'static str,
    lead: String,
    keys: Vec<Key>,
    columns: &'static str,
    panels: Vec<Panel>,
) -> Option<Section> {
    if panels.is_empty() {
        return None;
    }
    let body = html! {
        // One line needs no legend.
        @if keys.len() > 1 {
            ul.legend { @for key in &keys { li { (swatch(key.color, key.shape)) (key.label) } } }
        }
        div class={ "panels " (columns) } {
            @for panel in &panels {
                figure {
                    h3 { (panel.title) }
                    svg viewBox=(panel.drawn.view_box) role="img" aria-label=(panel.title) {
                        (PreEscaped(&panel.drawn.content))
                    }
                    figcaption { (panel.caption) }
                }
            }
        }
    };
    Some(Section { id, title, lead, body })
}

fn collections(collections: &[Collection]) -> Option<Section> {
    let collections: Vec<&Collection> = collections.iter().filter(|collection| !collection.bands.is_empty()).collect();
    if collections.is_empty() {
        return None;
    }
    let body = html! {
        @for collection in collections {
            @let problems: u64 = collection.bands.iter().map(|band| band.problems).sum();
            @if !collection.name.is_empty() { h3 { (collection.name) } }
            div.scroll {
                table.bands {
                    thead { tr { th { "Band" } th { "" } th { "Problems" } th {} th { "Attempts" } th { "Successes" } } }
                    tbody {
                        @for band in &collection.bands {
                            tr {
                                th scope="row" { (band.band) }
                                td.meaning { (meaning(&band.band)) }
                                td { (count(band.problems)) }
                                td.share { (share_bar(band.problems, problems)) }
                                td { (count(band.attempts)) }
                                td { (count(band.successes)) }
                            }
                        }
                    }
                }
            }
        }
    };
    Some(Section {
        id: "collection",
        title: "The problems, as collected",
        lead: "How often the policy that collected traces solved each problem. The bands at both ends are silent \
               in ordinary training."
            .to_owned(),
        body,
    })
}

fn outcomes(table: Option<&PlainTable>, detail: &str) -> Option<Section> {
    let table = table.filter(|table| !table.rows.is_empty())?;
    let lead = with_detail(&table.lead, detail);
    let body = plain_table(&PlainTable { lead: String::new(), ..table.clone() });
    Some(Section { id: "outcomes", title: "Outcomes", lead, body })
}

fn meaning(band: &str) -> &'static str {
    match band {
        "unsolved" => "no success seen",
        "hard" => "solved in less than a quarter of the attempts",
        "medium" => "in a quarter to three quarters",
        "brittle" => "failed in less than a quarter",
        "saturated" => "no failure seen",
        _ => "",
    }
}

fn share_bar(part: u64, whole: u64) -> Markup {
    let width = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    html! {
        span.bar aria-hidden="true" style={ "--c:" (variable(MIXED)) } { i style={ "width:" (format!("{width:.2}")) "%" } {} }
    }
}

fn traces(traces: &[TraceView], detail: &str) -> Option<Section> {
    if traces.is_empty() {
        return None;
    }
    let body = html! { @for (index, trace) in traces.iter().enumerate() { (trace_view(trace, index == 0)) } };
    Some(Section {
        id: "traces",
        title: "Traces",
        lead: with_detail(
            "What the policy was given and what it wrote. Shaded text was given: no gradient flows through it.",
            detail,
        ),
        body,
    })
}

fn trace_view(trace: &TraceView, open: bool) -> Markup {
    let (word, class) = match trace.outcome {
        Outcome::Correct => ("✓ correct", "correct"),
        Outcome::Wrong => ("✗ wrong", "wrong"),
        Outcome::NoAnswer => ("– no answer", "wrong"),
        Outcome::Unreadable => ("? unreadable", "wrong"),
        Outcome::Budget => ("? budget used up", "wrong"),
        Outcome::Timeout => ("✗ timeout", "wrong"),
        Outcome::Memory => ("✗ out of memory", "wrong"),
        Outcome::Runtime => ("✗ ended with an error", "wrong"),
        Outcome::Compile => ("✗ not compiled", "wrong"),
        Outcome::OutputLimit => ("✗ too much output", "wrong"),
        Outcome::Infra => ("! verifier failed", "wrong"),
    };
    html! {
        details.trace open[open] {
            summary {
                span class={ "verdict " (class) } { (word) }
                span.id { (trace.problem_id) }
                span.about {
                    @if !trace.arm.is_empty() { (trace.arm) " · " }
                    @if let Some(step) = trace.step { "step " (count(step)) " · " }
                    @if trace.prefix.is_empty() { "plain" } @else { "prefixed" }
                }
            }
            h4 { "Problem" }
            pre { (trace.problem) }
            @if !trace.prompt.is_empty() && trace.prompt.trim() != trace.problem.trim() {
                h4 { "Prompt" }
                pre { (trace.prompt) }
            }
            h4 { @if trace.prefix.is_empty() { "Completion" } @else { "Prefix and completion" } }
            pre {
                @if !trace.prefix.is_empty() { mark { span.tag { "given" } (trace.prefix) } span.tag.wrote { "policy" } }
                (trace.completion)
            }
            dl {
                div { dt { "answer read" } dd { @if let Some(answer) = &trace.extracted { (answer) } @else { "none" } } }
                div { dt { "reference" } dd { (trace.reference) } }
                @if !trace.policy.is_empty() { div { dt { "policy" } dd { code { (trace.policy) } } } }
            }
        }
    }
}

fn recipe(recipe: &str) -> Option<Section> {
    if recipe.trim().is_empty() {
        return None;
    }
    let body = html! { details { summary { "Every value as resolved" } pre.code { (recipe.trim_end()) } } };
    Some(Section { id: "recipe", title: "Recipe", lead: String::new(), body })
}

pub(super) fn swatch(color: RGBColor, shape: KeyShape) -> Markup {
    let class = match shape {
        KeyShape::Line => "key line",
        KeyShape::Dashes => "key dashes",
        KeyShape::Area => "key area",
    };
    html! { span class=(class) style={ "--c:" (variable(color)) } {} }
}

/// The style sheet's variable for a colour of the charts: light by name, replaced on a dark page.
fn variable(RGBColor(red, green, blue): RGBColor) -> String {
    format!("var(--{red:02X}{green:02X}{blue:02X})")
}
