//! Values as Python writes them, and the methods of Python's texts and lists that templates call.
//!
//! A template was written for Jinja on Python, and a difference of one character is another prompt. Here are
//! `json.dumps` and `str` for the values that a template can make, and the methods that `minijinja_contrib`
//! does not have.
//!
//! Departures: a text joined by `~` with a truth value or none is written `true`, `false`, `none` (Python:
//! `True`, `False`, `None`), because that operator is the engine's own; numbers above 1e16 are not in
//! scientific notation.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Lists within lists deeper than this are refused.
const DEEPEST: usize = 64;

/// `json.dumps(value, ensure_ascii=False)` with the settings that transformers' `tojson` takes.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => match (indent.as_usize(), indent.as_str()) {
            (Some(spaces), _) if spaces <= 64 => Some(" ".repeat(spaces)),
            (None, Some(text)) if text.len() <= 64 => Some(text.to_owned()),
            _ => return Err(refused(format!("tojson(indent={indent}), expected at most 64 spaces"))),
        },
    };
    let mut json = Json {
        between: if indent.is_some() { "," } else { ", " }.to_owned(),
        after_key: ": ".to_owned(),
        indent,
        is_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        is_sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        out: String::new(),
    };
    if let Some(separators) = separators {
        let [between, after_key] = <[String; 2]>::try_from(separators)
            .map_err(|found| refused(format!("tojson has {} separators, expected 2", found.len())))?;
        (json.between, json.after_key) = (between, after_key);
    }
    options.assert_all_used()?;
    json.write(value, 0)?;
    Ok(Value::from(json.out))
}

/// `str(value)`: what `{{ value }}` and the filter `string` write.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    match value.as_str() {
        Some(text) => out.push_str(text),
        None => write_repr(value, 0, &mut out)?,
    }
    Ok(out)
}

/// The methods of texts and lists beside those of `minijinja_contrib`, which come next.
pub(super) fn method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = text_method(text, method, arguments)
    {
        return result;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

fn text_method(text: &str, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    let given = |at: usize| arguments.get(at).and_then(Value::as_str);
    let pair = |found: Option<(&str, &str)>, by: &str, is_first: bool| match found {
        Some((before, after)) => vec![before.to_owned(), by.to_owned(), after.to_owned()],
        None if is_first => vec![text.to_owned(), String::new(), String::new()],
        None => vec![String::new(), String::new(), text.to_owned()],
    };
    let value = match (method, arguments.len()) {
        ("removeprefix", 1) => Value::from(text.strip_prefix(given(0)?).unwrap_or(text)),
        ("removesuffix", 1) => Value::from(text.strip_suffix(given(0)?).unwrap_or(text)),
        ("partition", 1) if !given(0)?.is_empty() => Value::from(pair(text.split_once(given(0)?), given(0)?, true)),
        ("rpartition", 1) if !given(0)?.is_empty() => Value::from(pair(text.rsplit_once(given(0)?), given(0)?, false)),
        ("rsplit", 1) if !given(0)?.is_empty() => {
            Value::from(text.split(given(0)?).map(str::to_owned).collect::<Vec<_>>())
        }
        ("rsplit", 2) if !given(0)?.is_empty() => {
            let most = arguments[1].as_usize()?;
            let parts = text.rsplitn(most.saturating_add(1), given(0)?).map(str::to_owned);
            let mut parts: Vec<String> = parts.collect();
            parts.reverse();
            Value::from(parts)
        }
        ("casefold", 0) => Value::from(text.to_lowercase()),
        ("isdecimal", 0) => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        _ => return None,
    };
    Some(Ok(value))
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn too_deep() -> Error {
    refused(format!("a value is nested more than {DEEPEST} deep"))
}

struct Json {
    between: String,
    after_key: String,
    indent: Option<String>,
    is_ascii: bool,
    is_sorted: bool,
    out: String,
}

impl Json {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::String => self.quote(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(('[', ']'), depth, items, |json, item| json.write(&item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.is_sorted {
                    keys.sort();
                }
                self.list(('{', '}'), depth, keys, |json, key| {
                    match key.as_str() {
                        Some(text) => json.quote(text),
                        None => json.quote(&key.to_string()),
                    }
                    let after = json.after_key.clone();
                    json.out.push_str(&after);
                    json.write(&value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => return Err(refused(format!("tojson of {kind}, which JSON does not have"))),
        }
        Ok(())
    }

    fn list(
        &mut self,
        (open, close): (char, char),
        depth: usize,
        items: Vec<Value>,
        mut each: impl FnMut(&mut Json, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let is_empty = items.is_empty();
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.out.push_str(&self.between);
            }
            self.line(depth + 1);
            each(self, item)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                control if control < ' ' => self.out.push_str(&format!("\\u{:04x}", control as u32)),
                other if self.is_ascii && !other.is_ascii() => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }
}

/// `repr(value)`.
fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String => quote_repr(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (at, item) in value.try_iter()?.enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_repr(&item, depth + 1, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_repr(&key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Python quotes with `'`, unless the text has one and no `"`.
fn quote_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' || control == '\u{7f}' => out.push_str(&format!("\\x{:02x}", control as u32)),
            same if same == quote => out.extend(['\\', same]),
            other => out.push(other),
        }
    }
    out.push(quote);
}
