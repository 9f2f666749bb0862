//! One table of a recipe: its keys, their types and their defaults, declared once.
//!
//! [`section!`] makes two types of a declaration, as written (every key optional) and as resolved
//! (every key there). A key without a default must be written.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RecipeError;

/// A table whose key `kind` says which method it is, and whose other keys are that method's own.
pub trait Method: Sized + Serialize {
    /// The table's name in a recipe.
    const SECTION: &'static str;
    /// The methods there are, the default one anywhere among them.
    const KINDS: &'static [&'static str];
    /// What a person wants to know of each, in the order of `KINDS`.
    const LISTED: &'static [Listing];

    /// Reads the settings of the method `kind` from the table's other keys.
    ///
    /// # Errors
    /// An unknown kind, and what is wrong with a key.
    fn read(kind: &str, table: toml::Table) -> Result<Self, RecipeError>;
}

/// One line about a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its `kind` in a recipe.
    pub name: &'static str,
    /// What it does, as its documentation says it.
    pub lines: &'static [&'static str],
    /// Where it is from: an arXiv number, or other words.
    pub paper: &'static str,
    /// The recipe that shows it: a file of `recipes/`, without its ending.
    pub recipe: &'static str,
    /// The keys of its table.
    pub settings: &'static [Setting],
}

impl Listing {
    /// What it does, in one line.
    pub fn summary(&self) -> String {
        joined(self.lines)
    }
}

/// One key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// What it means, as its documentation says it.
    pub lines: &'static [&'static str],
}

impl Setting {
    /// What it means, in one line.
    pub fn meaning(&self) -> String {
        joined(self.lines)
    }
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

macro_rules! section {
    ($(#[$meta:meta])* $resolved:ident from $written:ident {
        $($(#[doc = $doc:literal])* $key:ident: $type:ty $(= $default:expr)?,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $resolved { $($(#[doc = $doc])* pub $key: $type,)* }

        #[doc = concat!("[`", stringify!($resolved), "`] as written: a key that is not there is none.")]
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $written { $($(#[doc = $doc])* pub $key: Option<$type>,)* }

        impl $resolved {
            /// The keys of this table.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
            /// What a person wants to know of each key, in the order of `KEYS`.
            pub const SETTINGS: &'static [$crate::recipe::Setting] = &[$($crate::recipe::Setting {
                key: stringify!($key),
                lines: &[$($doc),*],
            }),*];

            /// Reads the table `section` and fills in the defaults.
            ///
            /// # Errors
            /// A key that is unknown, of a wrong type, or missing without a default.
            pub fn read(table: toml::Table, section: &str) -> Result<$resolved, $crate::recipe::RecipeError> {
                $written::read(table, section)?.resolve(section)
            }
        }

        impl $written {
            /// Reads the table `section` without filling anything in.
            ///
            /// # Errors
            /// A key that is unknown or of a wrong type.
            #[allow(unused_mut)] // A method without settings takes nothing out.
            pub fn read(mut table: toml::Table, section: &str) -> Result<$written, $crate::recipe::RecipeError> {
                let written = $written { $($key: $crate::recipe::section::take(&mut table, section, stringify!($key))?,)* };
                $crate::recipe::section::refuse_rest(&table, section, $resolved::KEYS)?;
                Ok(written)
            }

            /// Fills in the defaults.
            ///
            /// # Errors
            /// A key that is missing and has no default.
            #[allow(unused_variables)] // As above.
            pub fn resolve(self, section: &str) -> Result<$resolved, $crate::recipe::RecipeError> {
                Ok($resolved {
                    $($key: $crate::recipe::section::section!(@value self.$key, section, stringify!($key) $(, $default)?),)*
                })
            }
        }
    };
    (@value $value:expr, $section:expr, $key:expr) => {
        $value.ok_or_else(|| $crate::recipe::RecipeError::Missing {
            section: $section.to_owned(),
            key: $key.to_owned(),
        })?
    };
    (@value $value:expr, $section:expr, $key:expr, $default:expr) => { $value.unwrap_or_else(|| $default) };
}
pub(crate) use section;

/// Takes `key` out of `table` and reads it.
pub(crate) fn take<T: DeserializeOwned>(
    table: &mut toml::Table,
    section: &str,
    key: &str,
) -> Result<Option<T>, RecipeError> {
    let Some(value) = table.remove(key) else { return Ok(None) };
    let found = shown(&value);
    value.try_into().map(Some).map_err(|error: toml::de::Error| {
        // The library's sentence ends in what it expected; what it found, we show as it was written.
        let message = error.message().trim();
        let reason = match message.strip_prefix("invalid ").and_then(|rest| rest.rsplit_once("expected ")) {
            Some((_, expected)) => format!("found {found}, expected {}", in_words(expected)),
            None => format!("found {found}: {message}"),
        };
        RecipeError::WrongType { section: section.to_owned(), key: key.to_owned(), reason }
    })
}

/// The library's name of a type, as a person who writes TOML knows it.
fn in_words(expected: &str) -> &str {
    match expected {
        "u32" | "u64" | "usize" => "a whole number of at least 0",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        other => other,
    }
}

/// Refuses what is left in `table` after every known key was taken.
pub(crate) fn refuse_rest(table: &toml::Table, section: &str, known: &[&str]) -> Result<(), RecipeError> {
    let Some(key) = table.keys().next() else { return Ok(()) };
    let hint = nearest_hint(key, known);
    Err(RecipeError::UnknownKey { section: section.to_owned(), key: key.clone(), hint })
}

/// The nearest of `known`, or all of them where none is near.
pub(crate) fn nearest_hint(written: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::jaro_winkler(written, name), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("there are {}", known.join(", ")),
    }
}

/// A value with its type, as an error shows it.
pub(crate) fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(_) => "a table".to_owned(),
        toml::Value::Array(_) => "an array".to_owned(),
        _ => format!("the {} {value}", value.type_str()),
    }
}
