//! The report of a run, or of several side by side: one HTML file that needs nothing else.
//!
//! No network, no scripts, no fonts of its own: it can be mailed, and opened in ten years. [`render`]
//! is a pure function of plain numbers ([`ReportData`]); gathering them from a store is a command's
//! work. Whatever is missing in the data is left out of the page, never drawn empty.

mod chart;
mod data;
mod frame;
mod html;
#[cfg(test)]
mod tests;
mod theory;

pub use data::{
    Arm, BandRow, BeforeAfter, Collection, Estimate, Evaluation, Fact, GroupCounts, HeadlineRow, PassAtK, PlainTable,
    PrefixSweep, ReportData, StepPoint, Success, SweepPoint, TraceView,
};
pub use theory::render_theory;

/// Why a report could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum RenderError {
    /// The plotting library refused a chart.
    Chart {
        /// The chart's title.
        title: String,
        /// What the library said.
        reason: String,
    },
}

impl std::fmt::Display for RenderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RenderError::Chart { title, reason } => write!(f, "the chart \"{title}\" cannot be drawn: {reason}"),
        }
    }
}

impl std::error::Error for RenderError {}

/// The report as one HTML document.
///
/// # Errors
/// When the plotting library refuses a chart; no data is known to make it.
pub fn render(data: &ReportData) -> Result<String, RenderError> {
    html::page(data)
}
