//! Parquet files → frames, and back.

use super::read::{Found, Wanted};
use super::{Frame, Type, as_type, nulls};
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use ::parquet::arrow::{ArrowWriter, ProjectionMask};
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use anyhow::{Context as _, bail};
use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Rows that are decoded at a time.
const BATCH: usize = 1 << 16;

/// Reads the wanted columns.
pub(super) fn read(path: &Path, wanted: Wanted<'_>) -> anyhow::Result<Found> {
    let file = File::open(path).context("the file cannot be opened")?;
    let plain = ParquetRecordBatchReaderBuilder::try_new(file.try_clone()?).context("this is no Parquet file")?;
    // Texts are taken as dictionaries, which is what they are in the file as well.
    let as_dictionary = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(Field::new(field.name(), dictionary, field.is_nullable()))
        }
        _ => Arc::clone(field),
    };
    let schema = Arc::clone(plain.schema());
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let hinted = Schema::new(schema.fields().iter().map(as_dictionary).collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(hinted));
    let metadata = ArrowReaderMetadata::load(&file, options)?;
    let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).context("the file is damaged")?;
    let mut columns = Vec::new();
    // One column after the other, so that no more than one of them is in memory twice.
    for (number, name) in names.iter().enumerate().filter(|(_, name)| wanted.has(name)) {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), [number]);
        let mut parts = Vec::new();
        for batch in builder.with_projection(mask).with_batch_size(BATCH).build()? {
            let batch = batch.context("the file is damaged")?;
            let array = of_arrow(batch.column(0)).with_context(|| format!("column `{name}`"))?;
            parts.push(Frame::new(vec![(name.clone(), array)], batch.num_rows()));
        }
        columns.extend(Frame::stack(&parts)?.0.columns);
    }
    // A file without rows has no parts, but columns all the same.
    if rows == 0 {
        columns =
            names.iter().filter(|name| wanted.has(name)).map(|name| (name.clone(), nulls(Type::Null, 0))).collect();
    }
    Ok(Found { frame: Frame::new(columns, rows), names: names.into_iter().collect(), mixed: BTreeSet::new() })
}

/// An array of any of Arrow's types as one of this room's.
fn of_arrow(array: &ArrayRef) -> anyhow::Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Null | DataType::Boolean | DataType::Int64 | DataType::Float64 => Arc::clone(array),
        DataType::Int8 => ints::<Int8Type>(array),
        DataType::Int16 => ints::<Int16Type>(array),
        DataType::Int32 => ints::<Int32Type>(array),
        DataType::UInt8 => ints::<UInt8Type>(array),
        DataType::UInt16 => ints::<UInt16Type>(array),
        DataType::UInt32 => ints::<UInt32Type>(array),
        DataType::UInt64 => {
            let whole = array.as_primitive::<UInt64Type>();
            let whole = whole.try_unary::<_, Int64Type, _>(|value| {
                i64::try_from(value).map_err(|_| arrow_schema::ArrowError::CastError(value.to_string()))
            });
            Arc::new(whole.context("a number is greater than 9223372036854775807")?)
        }
        DataType::Float16 => {
            Arc::new(array.as_primitive::<Float16Type>().unary::<_, Float64Type>(|value| value.to_f64()))
        }
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float64Type>(f64::from)),
        DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => Arc::clone(array),
        DataType::Utf8 => texts(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => texts(array.as_string::<i64>().iter()),
        DataType::Utf8View => texts(array.as_string_view().iter()),
        other => bail!("it is of the type {other}: numbers, texts and truth values can be read"),
    })
}

fn ints<T: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef
where
    i64: From<T::Native>,
{
    Arc::new(array.as_primitive::<T>().unary::<_, Int64Type>(i64::from))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    builder.extend(values);
    Arc::new(builder.finish())
}

impl Frame {
    /// Writes the frame as a Parquet file. Equal frames give equal bytes with one build of the program.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_parquet(&self, writer: impl Write + Send) -> anyhow::Result<()> {
        // A column of nothing has no type in Parquet that every reader knows: it is one of numbers.
        let typed = |(name, array): &(String, ArrayRef)| match Type::of(array) {
            Type::Null => (name.clone(), as_type(array, Type::Float)),
            _ => (name.clone(), Arc::clone(array)),
        };
        let columns: Vec<(String, ArrayRef)> = self.columns.iter().map(typed).collect();
        let field = |(name, array): &(String, ArrayRef)| Field::new(name, array.data_type().clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(self.rows));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by("titer".to_string());
        let mut writer = ArrowWriter::try_new(writer, schema, Some(properties.build()))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(())
    }
}
