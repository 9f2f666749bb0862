//! Rows of JSON lines and Parquet files, each as a JSON object.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use serde_json::Value;

use crate::token_lines::{Line, Lines};

/// The files at `path`: itself, or those of the folder and the folders in it that end in `.jsonl` or `.parquet`
/// (a `.json` there is somebody's settings), by folder, then by number or name (`2.jsonl` before `10.jsonl`).
///
/// # Errors
/// There is nothing, or a folder cannot be listed.
pub fn find(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.exists() {
        bail!("{} is not there", path.display());
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    list(path, &mut found)?;
    found.sort_by_cached_key(|path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (path.parent().map(Path::to_owned), stem.parse::<u64>().unwrap_or(u64::MAX), stem)
    });
    if found.is_empty() {
        bail!("{} has no file that ends in .jsonl or .parquet", path.display());
    }
    Ok(found)
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let is_rows = path.extension().is_some_and(|end| end == "jsonl" || end == "parquet");
        // A link to a folder above would be followed for ever.
        if path.is_dir() && !path.is_symlink() {
            list(&path, found)?;
        } else if is_rows && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// The rows of one file, in order.
pub enum Rows {
    /// One JSON object a line.
    Lines(Lines),
    /// Parquet, whose rows become JSON objects.
    Parquet {
        /// The file's name, for messages.
        name: String,
        /// Rows read so far.
        number: usize,
        /// The rest. Boxed, because it is a hundred times the size of the other.
        rows: Box<RowIter<'static>>,
    },
}

impl Rows {
    /// Opens a file; what ends in `.parquet` is Parquet.
    ///
    /// # Errors
    /// It cannot be opened, or is no Parquet file.
    pub fn open(path: &Path) -> Result<Rows> {
        if path.extension().is_none_or(|end| end != "parquet") {
            return Ok(Rows::Lines(Lines::open(Some(path))?));
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let reader = SerializedFileReader::new(file).with_context(|| format!("{name} is not a Parquet file"))?;
        if reader.num_row_groups() == 0 {
            bail!("{name} has no rows");
        }
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok(Rows::Parquet { name, number: 0, rows: Box::new(rows) })
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self) -> Result<Option<Line>> {
        match self {
            Rows::Lines(lines) => lines.read(),
            Rows::Parquet { name, number, rows } => {
                let Some(row) = rows.next() else { return Ok(None) };
                *number += 1;
                let place = format!("{name}, row {number}");
                let row = row.with_context(|| format!("{place}: cannot read"))?;
                match row.to_json_value() {
                    Value::Object(fields) => Ok(Some(Line { place, fields })),
                    _ => bail!("{place}: expected columns"),
                }
            }
        }
    }
}
