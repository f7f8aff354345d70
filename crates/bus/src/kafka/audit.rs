//! Audit events on their own topic: CloudEvents in JSON, which the brokers remove by size and age.

use alluvium_model::BusError;
use rdkafka::message::{Header, OwnedHeaders};

use super::shared::Shared;
use crate::audit::CONTENT_TYPE;

pub(super) async fn publish(shared: &Shared, about: &str, event: &[u8]) -> Result<(), BusError> {
    let (topic, configs) = (shared.settings.audit(), shared.settings.audit_configs());
    let ensure = || async { shared.admin.ensure(&topic, &configs).await.map(drop) };
    shared.audit.get_or_try_init(ensure).await?;
    let (key, value) = CONTENT_TYPE;
    let headers = || OwnedHeaders::new().insert(Header { key, value: Some(value) });
    let sent = shared
        .pusher
        .send(shared, &topic, |record| record.key(about).payload(event).headers(headers()));
    sent.await
}
