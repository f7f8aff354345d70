//! Records in quarantine of which the ledger was not told, because the process ended between a
//! layer's commit and the ledger's row. The lake tells how many there are; what they are is found
//! again from their messages.

use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::LedgerError;
use alluvium_model::outcome::Progress;
use alluvium_model::{EntityId, FetchLimit, Span};

use crate::context::Context;
use crate::error::LayerError;
use crate::layer::Job;
use crate::reader::Reader;
use crate::recorder::RecordError;

/// How long a message may take that is on the bus or in raw.
const WAIT: Duration = Duration::from_secs(5);

/// Tells the ledger of the records that the layer refused beyond what the ledger counted. Before
/// the counts are filled in: after that nobody would miss the records.
pub(crate) async fn tell(
    context: &Arc<Context>,
    job: &Job,
    timezone: &str,
    progress: &Progress,
) -> Result<(), LayerError> {
    let entity = job.spec.id();
    if !context.platform.stages.refuses(&job.spec, job.layer) {
        return Ok(());
    }
    let (span, missing) = gap(context, job, &entity, progress).await.map_err(RecordError::from)?;
    if missing == 0 || span.messages() == 0 {
        return Ok(());
    }
    let found = match find(context, job, timezone, span).await {
        Ok(found) => found,
        // What cannot be read now may be there later; then this comes again.
        Err(error) if error.remedy().is_retry() => return Err(error),
        Err(error) => {
            tracing::error!(%entity, layer = %job.layer, %span, %error,
                "records in quarantine were not told to the ledger, and cannot be found again");
            return Ok(());
        }
    };
    match found == missing {
        true => tracing::info!(%entity, layer = %job.layer, %span, found,
            "the ledger had not heard of records in quarantine; found again"),
        false => tracing::warn!(%entity, layer = %job.layer, %span, missing, found,
            "not all records in quarantine of which the ledger had not heard were found again"),
    }
    Ok(())
}

/// What the lake has beyond the ledger, and how many records were refused there.
async fn gap(
    context: &Context,
    job: &Job,
    entity: &EntityId,
    progress: &Progress,
) -> Result<(Span, u64), LedgerError> {
    let totals = context.platform.ledger.totals(entity).await?;
    let known = totals.iter().find(|t| t.layer == job.layer && t.epoch == progress.epoch);
    let (after, counted) = known.map_or((0, 0), |t| (t.offset, t.counts.quarantined));
    let span = Span { epoch: progress.epoch, after, to: progress.offset };
    Ok((span, progress.totals.quarantined.saturating_sub(counted)))
}

/// Reads the span once more, and puts what the layer refuses of it into quarantine.
async fn find(
    context: &Arc<Context>,
    job: &Job,
    timezone: &str,
    span: Span,
) -> Result<u64, LayerError> {
    let (entity, layer) = (job.spec.id(), job.layer);
    let platform = &context.platform;
    let settings = &platform.settings;
    let limit = FetchLimit {
        records: settings.batch_records,
        bytes: settings.batch_bytes.min(settings.memory_bytes),
        wait: WAIT,
    };
    let mut reader = Reader::once_more(context, job, span).await?;
    let mut found = 0;
    while reader.at() < span.to {
        let mut delivery = reader.fetch(limit).await?;
        if delivery.is_empty() {
            break;
        }
        delivery.messages.retain(|message| message.offset <= span.to);
        let refused = platform.stages.refused(&job.spec, timezone, &delivery).await?;
        let told = platform.ledger.quarantine_late(&entity, layer, &span, &refused, context.now());
        told.await.map_err(RecordError::from)?;
        found += refused.len() as u64;
    }
    Ok(found)
}
