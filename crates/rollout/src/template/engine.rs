//! A Jinja environment that renders as transformers' does, and no longer than it may.
//!
//! transformers renders with `trim_blocks`, `lstrip_blocks`, loop controls, a `tojson` without HTML escapes,
//! `raise_exception`, `strftime_now`, and a tag `generation` that only marks its body. A template comes from
//! a stranger: it can name no file, its source, steps, depth and text are bounded, and the clock is not its
//! to read, so that a prompt is the same tomorrow.
//!
//! Limit: a template may double a text in memory before it writes it, which no count of steps bounds.

use std::borrow::Cow;
use std::fmt::Write as _;

use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::{Date, python};

/// Bytes of a template; those of known families have 0.2 to 25 thousand.
pub(super) const LONGEST_SOURCE: u64 = 1 << 20;
/// Steps of the engine for one prompt; the longest known templates take some thousands.
const MOST_STEPS: u64 = 2_000_000;
/// Macros and loops within each other.
const DEEPEST: usize = 100;

const NAME: &str = "chat_template";

/// Reads a template.
///
/// # Errors
/// It is no Jinja, or uses what the engine does not have.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_recursion_limit(DEEPEST);
    environment.set_unknown_method_callback(python::method);
    environment.set_formatter(|out, _, value| {
        if value.is_undefined() {
            return Ok(());
        }
        out.write_str(&python::text(value)?).map_err(Error::from)
    });
    environment.add_filter("tojson", |value: &Value, options| python::tojson(value, options));
    environment.add_filter("string", |value: &Value| python::text(value));
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{}", python::text(message)?)))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_template_owned(NAME, without_generation_tags(source).into_owned())?;
    Ok(environment)
}

/// Renders with these variables.
///
/// # Errors
/// The template raises, does what its values do not allow, or runs out of steps.
pub(super) fn render(environment: &Environment<'static>, variables: Value) -> Result<String, Error> {
    environment.get_template(NAME)?.render(variables)
}

/// What the template itself says against the messages, where it is that.
pub(super) fn raised(error: &Error) -> Option<&str> {
    error.detail().and_then(|detail| detail.strip_prefix(RAISED))
}

/// Whether the template asked for a date and none was given.
pub(super) fn lacks_date(error: &Error) -> bool {
    error.detail() == Some(NO_DATE)
}

const RAISED: &str = "raised: ";
const NO_DATE: &str = "no date was given";
/// The variable that `strftime_now` reads; no template knows of it.
pub(super) const DATE_VARIABLE: &str = "__date";

/// `datetime.now().strftime(format)`, on the given date at midnight.
fn strftime_now(state: &mut State, format: &str) -> Result<String, Error> {
    let date = state.lookup(DATE_VARIABLE).and_then(|date| date.as_str().and_then(|text| text.parse::<Date>().ok()));
    let date = date.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, NO_DATE))?;
    let unknown =
        || Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know the format {format:?}"));
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(unknown());
    }
    let mut text = String::new();
    write!(text, "{}", date.midnight().format_with_items(items.into_iter())).map_err(|_| unknown())?;
    Ok(text)
}

/// `{% generation %}` marks what the assistant wrote and scopes what is set in it, as `{% with %}` does.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        out.push_str(before);
        let (body, after) = tag.split_at(tag.find("%}").unwrap_or(tag.len()));
        let word = body.trim_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&body.replace("generation", "with")),
            "endgeneration" => out.push_str(&body.replace("endgeneration", "endwith")),
            _ => out.push_str(body),
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}
