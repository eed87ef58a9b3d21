//! From columns to the types of rows, and back: SQL knows no unsigned integers and no arrays of 32 bytes.

use crate::StoreError;
use sqlx::{ColumnIndex, Decode, Row, Sqlite, Type, sqlite::SqliteRow};

/// A column of any type that the driver knows.
pub(crate) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
    &'static str: ColumnIndex<SqliteRow>,
{
    Ok(row.try_get(column)?)
}

/// 32 bytes: a digest or a key.
pub(crate) fn bytes32(row: &SqliteRow, column: &'static str) -> Result<[u8; 32], StoreError> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| damaged(column))
}

/// 32 bytes or nothing.
pub(crate) fn bytes32_or_none(row: &SqliteRow, column: &'static str) -> Result<Option<[u8; 32]>, StoreError> {
    get::<Option<&[u8]>>(row, column)?.map(|bytes| bytes.try_into().map_err(|_| damaged(column))).transpose()
}

/// An unsigned number of any width.
pub(crate) fn number<N: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<N, StoreError> {
    get::<i64>(row, column)?.try_into().map_err(|_| damaged(column))
}

/// An unsigned number as SQL stores it.
///
/// # Errors
/// [`StoreError::Invalid`] above `i64::MAX`.
pub(crate) fn signed(what: &str, number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Invalid {
        what: format!("{what} is {number}, the largest number that can be stored is {}", i64::MAX),
    })
}

/// Rows of one answer, whatever the caller asked for.
pub(crate) fn page(limit: u32) -> i64 {
    i64::from(limit.min(crate::PAGE_MAX))
}

fn damaged(column: &str) -> StoreError {
    StoreError::corrupt(format!("column {column:?} of the database"))
}
