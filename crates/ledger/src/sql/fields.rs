//! Reads our words from rows. What cannot be read is damage, and says in which column.

use std::str::FromStr;

use jiff::Timestamp;
use sqlx::{Decode, Postgres, Sqlite, Type};

use alluvium_model::{Checksum, Counts, EntityId, Epoch, Layer, RowsWritten};

use super::statement::Row;
use crate::LedgerError;

/// The word that stands in the `layer` column for the way from the source onto the bus.
pub(super) const SOURCE: &str = "source";

/// A row whose columns are asked for by name.
pub(super) struct Fields<'a>(pub(super) &'a Row);

impl<'a> Fields<'a> {
    /// A value as the database has it.
    pub(super) fn get<T>(&self, name: &str) -> Result<T, LedgerError>
    where
        T: Decode<'a, Sqlite> + Type<Sqlite> + Decode<'a, Postgres> + Type<Postgres>,
    {
        self.0.get(name).map_err(|error| LedgerError::Corrupt(format!("column {name}: {error}")))
    }

    /// A number that is never negative.
    pub(super) fn number(&self, name: &str) -> Result<u64, LedgerError> {
        u64::try_from(self.get::<i64>(name)?).map_err(|_| unreadable(name))
    }

    /// A number that says no or yes.
    pub(super) fn flag(&self, name: &str) -> Result<bool, LedgerError> {
        Ok(self.get::<i64>(name)? != 0)
    }

    /// A number that has a smaller type.
    pub(super) fn small(&self, name: &str) -> Result<u32, LedgerError> {
        u32::try_from(self.get::<i64>(name)?).map_err(|_| unreadable(name))
    }

    /// Text that is read as something else.
    pub(super) fn parsed<T: FromStr>(&self, name: &str) -> Result<T, LedgerError> {
        self.get::<&str>(name)?.parse().map_err(|_| unreadable(name))
    }

    /// One of few words.
    pub(super) fn word<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, LedgerError> {
        parse(self.get::<&str>(name)?).ok_or_else(|| unreadable(name))
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Timestamp, LedgerError> {
        self.parsed(name)
    }

    /// A time, or none yet.
    pub(super) fn time_if_any(&self, name: &str) -> Result<Option<Timestamp>, LedgerError> {
        let text: Option<&str> = self.get(name)?;
        text.map(|text| text.parse().map_err(|_| unreadable(name))).transpose()
    }

    /// JSON.
    pub(super) fn json(&self, name: &str) -> Result<serde_json::Value, LedgerError> {
        serde_json::from_str(self.get(name)?).map_err(|_| unreadable(name))
    }

    /// A checksum.
    pub(super) fn checksum(&self, name: &str) -> Result<Checksum, LedgerError> {
        self.parsed(name)
    }

    /// The columns `system` and `entity`.
    pub(super) fn entity(&self) -> Result<EntityId, LedgerError> {
        Ok(EntityId::new(self.parsed("system")?, self.parsed("entity")?))
    }

    /// The column `epoch`.
    pub(super) fn epoch(&self) -> Result<Epoch, LedgerError> {
        self.number("epoch").map(Epoch)
    }

    /// The column `layer`.
    pub(super) fn layer(&self) -> Result<Layer, LedgerError> {
        self.word("layer", layer)
    }

    /// The column `layer` where it may be the way from the source.
    pub(super) fn layer_or_source(&self) -> Result<Option<Layer>, LedgerError> {
        self.word("layer", |text| if text == SOURCE { Some(None) } else { layer(text).map(Some) })
    }

    /// The columns of [`Counts`], each with `prefix` before its name.
    pub(super) fn counts(&self, prefix: &str) -> Result<Counts, LedgerError> {
        let mut counts = Counts {
            records: self.number(&format!("{prefix}records"))?,
            late: self.number(&format!("{prefix}late"))?,
            ..Counts::default()
        };
        for outcome in alluvium_model::Outcome::ALL {
            counts.add(outcome, self.number(&format!("{prefix}{}", outcome.as_str()))?);
        }
        Ok(counts)
    }

    /// The columns of [`RowsWritten`].
    pub(super) fn rows(&self) -> Result<RowsWritten, LedgerError> {
        Ok(RowsWritten {
            opened: self.number("rows_opened")?,
            closed: self.number("rows_closed")?,
            rewritten: self.number("rows_rewritten")?,
        })
    }
}

/// The counts in the order in which all statements name their columns.
pub(super) fn in_order(counts: &Counts) -> [i64; 10] {
    let mut numbers = [0; 10];
    numbers[0] = signed(counts.records);
    for (number, outcome) in numbers[1..9].iter_mut().zip(alluvium_model::Outcome::ALL) {
        *number = signed(counts.of(outcome));
    }
    numbers[9] = signed(counts.late);
    numbers
}

/// A number as databases store it. None of ours reaches the bound.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn layer(text: &str) -> Option<Layer> {
    Layer::ALL.into_iter().find(|layer| layer.as_str() == text)
}

fn unreadable(name: &str) -> LedgerError {
    LedgerError::Corrupt(format!("column {name} holds something that cannot be read"))
}
