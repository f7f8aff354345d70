//! A row as compact JSON: integers exact, reals in their shortest form, text as it is, bytes in
//! base64.
//!
//! What JSON cannot hold is made to be noticed rather than altered: text that is not UTF-8 becomes
//! an object with its bytes, infinity a text. Neither fits its column, and both go to quarantine.

use std::io::Write as _;

use alluvium_model::SourceError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use crate::cursor::Stored;

/// The members of a row: for each column its name, as JSON with its colon.
pub(crate) struct Members(Vec<String>);

impl Members {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(|name| format!("{}:", serde_json::Value::from(name))).collect())
    }

    /// The row as JSON; its first column stands at `first`.
    pub(crate) fn json(&self, row: &SqliteRow, first: usize) -> Result<Box<RawValue>, SourceError> {
        let mut json = vec![b'{'];
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                json.push(b',');
            }
            json.extend_from_slice(name.as_bytes());
            write_value(&mut json, row, first + at).map_err(unreadable)?;
        }
        json.push(b'}');
        let text = String::from_utf8(json).map_err(unreadable)?;
        RawValue::from_string(text).map_err(unreadable)
    }
}

/// The value of a column as SQLite stores it; `None` for null.
pub(crate) fn stored(row: &SqliteRow, at: usize) -> Result<Option<Stored>, SourceError> {
    Ok(match class(row, at).map_err(unreadable)? {
        Class::Null => None,
        Class::Integer => Some(Stored::Integer(row.try_get_unchecked(at).map_err(unreadable)?)),
        Class::Real => Some(Stored::Real(row.try_get_unchecked(at).map_err(unreadable)?)),
        Class::Text => match row.try_get_unchecked(at) {
            Ok(text) => Some(Stored::Text(text)),
            Err(_) => {
                let text = "a key or cursor column holds text that is not UTF-8";
                return Err(SourceError::BadAnswer(text.to_owned()));
            }
        },
        Class::Blob => Some(Stored::Blob(row.try_get_unchecked(at).map_err(unreadable)?)),
    })
}

/// SQLite's storage classes.
enum Class {
    Null,
    Integer,
    Real,
    Text,
    Blob,
}

fn class(row: &SqliteRow, at: usize) -> Result<Class, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Class::Null);
    }
    let info = value.type_info();
    Ok(match info.name() {
        "INTEGER" => Class::Integer,
        "REAL" => Class::Real,
        "TEXT" => Class::Text,
        _ => Class::Blob,
    })
}

fn write_value(json: &mut Vec<u8>, row: &SqliteRow, at: usize) -> Result<(), sqlx::Error> {
    match class(row, at)? {
        Class::Null => json.extend_from_slice(b"null"),
        Class::Integer => write!(json, "{}", row.try_get_unchecked::<i64, _>(at)?)?,
        Class::Real => match row.try_get_unchecked::<f64, _>(at)? {
            finite if finite.is_finite() => write_json(json, &finite)?,
            infinite => write!(json, "\"{}Infinity\"", if infinite < 0.0 { "-" } else { "" })?,
        },
        Class::Text => match row.try_get_unchecked::<String, _>(at) {
            Ok(text) => write_json(json, &text)?,
            Err(_) => {
                let bytes: Vec<u8> = row.try_get_unchecked(at)?;
                write!(json, "{{\"$not_utf8\":\"{}\"}}", BASE64.encode(bytes))?;
            }
        },
        Class::Blob => {
            let bytes: Vec<u8> = row.try_get_unchecked(at)?;
            write!(json, "\"{}\"", BASE64.encode(bytes))?;
        }
    }
    Ok(())
}

fn write_json(json: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<(), sqlx::Error> {
    serde_json::to_writer(json, value).map_err(|e| sqlx::Error::Decode(e.into()))
}

fn unreadable(error: impl std::fmt::Display) -> SourceError {
    SourceError::BadAnswer(format!("a row cannot be read: {error}"))
}
