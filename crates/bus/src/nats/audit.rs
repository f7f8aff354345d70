//! Audit events on their own stream: CloudEvents in JSON, bounded by size and age, the oldest go
//! first.

use alluvium_model::BusError;
use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;

use super::{Shared, calls, records, streams};
use crate::audit::CONTENT_TYPE;

pub(super) async fn publish(
    shared: &Shared,
    id: &str,
    about: &str,
    event: Vec<u8>,
) -> Result<(), BusError> {
    let make = || streams::audit(&shared.js, &shared.names, &shared.settings);
    shared.audit.get_or_try_init(make).await?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE.0, CONTENT_TYPE.1);
    // An id is ours: made of names and numbers.
    headers.insert(NATS_MESSAGE_ID, id.replace(['\r', '\n'], "").as_str());
    let subject = shared.names.audit(about);
    let sent = calls::publish(&shared.js, subject, headers, event.into()).await?;
    sent.map(|_| ()).map_err(|error| records::refusal(&error))
}
