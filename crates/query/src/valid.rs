//! A silver table as of a moment in valid time: a view, so that what a statement asks for and the
//! moment are looked up together in the statistics of the files.

use std::sync::Arc;

use alluvium_model::SequenceType;
use alluvium_model::sequence::{DECIMAL_SCALE, SequenceBuilder, SequencePart};
use arrow::datatypes::{DataType, TimeUnit};
use deltalake::datafusion::catalog::TableProvider;
use deltalake::datafusion::common::{ScalarValue, TableReference};
use deltalake::datafusion::datasource::{ViewTable, provider_as_source};
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use deltalake::datafusion::prelude::ident;
use jiff::tz::TimeZone;

use crate::{QueryError, TableName, key};

const FROM: &str = "_valid_from";
const TO: &str = "_valid_to";

/// Of `table` the versions that were valid at `as_of`, which is read in the type of `_valid_from`.
pub(crate) fn at(
    name: &TableName,
    table: Arc<dyn TableProvider>,
    as_of: &str,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let schema = table.schema();
    let Ok(from) = schema.field_with_name(FROM) else {
        return Err(QueryError::Moment(format!("{name} has no column `{FROM}`")));
    };
    let kind = from.data_type();
    let moment = value(kind, as_of).ok_or_else(|| {
        let kind = key::name_of(kind);
        QueryError::Moment(format!("`{as_of}` does not fit {name}, whose `{FROM}` is a {kind}"))
    })?;
    let source = provider_as_source(table);
    let reference = TableReference::full(name.catalog, name.schema.as_str(), name.table.as_str());
    let plan = LogicalPlanBuilder::scan(reference, source, None)?.filter(valid(moment))?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

fn valid(moment: ScalarValue) -> Expr {
    let begun = ident(FROM).lt_eq(lit(moment.clone()));
    begun.and(ident(TO).gt(lit(moment)).or(ident(TO).is_null()))
}

/// Reads the moment as the sequences of records are read.
fn value(kind: &DataType, text: &str) -> Option<ScalarValue> {
    let read_as = match kind {
        DataType::Int64 => SequenceType::Long,
        DataType::Timestamp(TimeUnit::Microsecond, _) => SequenceType::Timestamp,
        DataType::Decimal128(_, DECIMAL_SCALE) => SequenceType::Decimal,
        _ => return None,
    };
    let mut sequence = SequenceBuilder::default();
    sequence.text(read_as, text, &TimeZone::UTC).ok()?;
    match (sequence.finish()?.first(), kind) {
        (SequencePart::Long(value), _) => Some(ScalarValue::Int64(Some(value))),
        (SequencePart::Timestamp(micros), DataType::Timestamp(_, zone)) => {
            Some(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()))
        }
        (SequencePart::Decimal(digits), DataType::Decimal128(precision, scale)) => {
            Some(ScalarValue::Decimal128(Some(digits), *precision, *scale))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &DataType, text: &str) -> Option<String> {
        value(kind, text).map(|value| value.to_string())
    }

    #[test]
    fn an_instant_has_a_zone_or_is_utc_and_may_be_a_day() {
        let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let midnight = value(&kind, "2026-01-31T00:00:00Z");
        assert!(midnight.is_some());
        for text in ["2026-01-31", "2026-01-31 00:00:00", "2026-01-31T02:00:00+02:00"] {
            assert_eq!(value(&kind, text), midnight, "{text}");
        }
        // What is finer than the column is rounded down: versions begin and end in its steps.
        let before_1970 = value(&kind, "1969-12-31T23:59:59.9999995Z");
        assert_eq!(
            before_1970,
            Some(ScalarValue::TimestampMicrosecond(Some(-1), Some("UTC".into())))
        );
        for text in ["", "5", "yesterday", "2026-02-30"] {
            assert_eq!(value(&kind, text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_exactly() {
        assert_eq!(read(&DataType::Int64, " -7 "), Some("-7".to_owned()));
        assert_eq!(read(&DataType::Int64, "7.0"), None);
        let decimal = DataType::Decimal128(38, DECIMAL_SCALE);
        let scaled = ScalarValue::Decimal128(Some(12_500_000_000), 38, DECIMAL_SCALE);
        assert_eq!(value(&decimal, "12.5"), Some(scaled.clone()));
        assert_eq!(value(&decimal, "1.25e1"), Some(scaled));
        assert_eq!(value(&decimal, "0.0000000001"), None, "it would have to be rounded");
        assert_eq!(value(&decimal, "2026-01-31"), None);
    }
}
