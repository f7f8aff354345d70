//! Audit events on their own stream: CloudEvents in JSON, bounded by size and age, the oldest go
//! first.

use alluvium_model::BusError;
use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;

use super::{Shared, records, streams};
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
    let sent = shared.js.publish_with_headers(subject, headers, event.into()).await;
    match sent {
        Ok(acknowledged) => acknowledged.await,
        Err(error) => Err(error),
    }
    .map(|_| ())
    .map_err(|error| records::refusal(&error))
}
