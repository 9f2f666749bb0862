//! Columns as a Parquet file: texts, whole numbers, and lists of either.
//!
//! Nothing is ever missing: every field is required, and a list that has nothing is an empty list. So the only
//! levels are those of lists: repetition 0 begins a row and 1 goes on in it, definition 0 is an empty list and
//! 1 an element.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use toehold_rollout::TokenId;

/// One column, a value per row; in the order of the schema's leaves.
pub(super) enum Column<'a> {
    Text(Vec<&'a str>),
    Number(Vec<i64>),
    Texts(Vec<Vec<&'a str>>),
    Ids(Vec<&'a [TokenId]>),
}

/// Writes the columns in one file; what `schema` says of them is Parquet's own language.
pub(super) fn write(path: &Path, schema: &str, columns: &[Column<'_>]) -> Result<()> {
    let beside = crate::run_folder::beside(path);
    let what = || format!("cannot write {}", path.display());
    let schema = Arc::new(parse_message_type(schema).context("the schema of an exported file")?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = File::create(&beside).with_context(what)?;
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).with_context(what)?;
    let mut group = writer.next_row_group().with_context(what)?;
    for column in columns {
        let leaf = group.next_column().with_context(what)?;
        let leaf = leaf.context("an exported file has more columns than its schema")?;
        column.write(leaf).with_context(what)?;
    }
    group.close().with_context(what)?;
    writer.close().with_context(what)?;
    std::fs::rename(&beside, path).with_context(what)
}

impl Column<'_> {
    fn write(&self, mut leaf: SerializedColumnWriter<'_>) -> parquet::errors::Result<()> {
        let bytes = |text: &&str| ByteArray::from(text.as_bytes().to_vec());
        match (self, leaf.untyped()) {
            (Column::Text(texts), ColumnWriter::ByteArrayColumnWriter(to)) => {
                to.write_batch(&texts.iter().map(bytes).collect::<Vec<_>>(), None, None)?;
            }
            (Column::Number(numbers), ColumnWriter::Int64ColumnWriter(to)) => {
                to.write_batch(numbers, None, None)?;
            }
            (Column::Texts(lists), ColumnWriter::ByteArrayColumnWriter(to)) => {
                let (definition, repetition) = levels(lists.iter().map(Vec::len));
                let values: Vec<ByteArray> = lists.iter().flatten().map(bytes).collect();
                to.write_batch(&values, Some(&definition), Some(&repetition))?;
            }
            (Column::Ids(lists), ColumnWriter::Int32ColumnWriter(to)) => {
                let (definition, repetition) = levels(lists.iter().map(|list| list.len()));
                let values: Vec<i32> = lists.iter().flat_map(|list| list.iter().map(|id| id.cast_signed())).collect();
                to.write_batch(&values, Some(&definition), Some(&repetition))?;
            }
            _ => return Err(parquet::errors::ParquetError::General("a column is not of its schema's type".to_owned())),
        }
        leaf.close()
    }
}

/// Definition and repetition levels of lists of these lengths.
fn levels(lengths: impl Iterator<Item = usize>) -> (Vec<i16>, Vec<i16>) {
    let (mut definition, mut repetition) = (Vec::new(), Vec::new());
    for length in lengths {
        definition.extend(std::iter::repeat_n(i16::from(length > 0), length.max(1)));
        repetition.push(0);
        repetition.extend(std::iter::repeat_n(1, length.saturating_sub(1)));
    }
    (definition, repetition)
}
