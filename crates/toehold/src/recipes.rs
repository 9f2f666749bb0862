//! The project's recipes, inside the program: whoever has only the binary has them too.

use include_dir::{Dir, include_dir};

static FOLDER: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../recipes");

/// The text of `recipes/NAME.toml`; none when there is no such file.
pub fn text(name: &str) -> Option<&'static str> {
    FOLDER.get_file(format!("{name}.toml"))?.contents_utf8()
}

/// The names of all recipes, in alphabetical order.
pub fn names() -> Vec<&'static str> {
    let name = |file: &'static include_dir::File<'_>| file.path().file_name()?.to_str()?.strip_suffix(".toml");
    let mut names: Vec<&str> = FOLDER.files().filter_map(name).collect();
    names.sort_unstable();
    names
}
