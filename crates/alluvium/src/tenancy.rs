//! That all who use a shared bus have one ledger.
//!
//! The leases by which processes share the work stand in the ledger. Two ledgers on one bus would be
//! two owners of each layer: tables and topics are fenced, so that nothing comes twice, but each would
//! break the other off again and again. So those of a ledger say on the bus, every few seconds, that
//! they are there. Whoever comes with another ledger waits whether they say it again, and is refused
//! then; where they are silent, their ledger was lost or left, and the newcomer takes the bus over.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{Bus, Mark, Tenant};
use alluvium_ledger::Ledger;
use alluvium_model::{BusError, Clock, SystemClock};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::destination::Destination;
use crate::exit::UsageError;

/// How often it is said. The same in all processes, whatever their settings.
const BEAT: Duration = Duration::from_secs(5);
/// Nobody is silent for so long who is there.
const SILENCE: Duration = Duration::from_secs(15);
/// How often a newcomer looks meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// The bus is ours: of those who have this ledger.
pub(crate) struct Tenancy {
    lost: watch::Receiver<Option<String>>,
    _beats: AbortOnDropHandle<()>,
}

impl Tenancy {
    /// Makes the bus ours. Refused where those of another ledger use it.
    pub(crate) async fn take(bus: &Arc<dyn Bus>, ledger: &dyn Ledger) -> anyhow::Result<Self> {
        let id = ledger.id().await?;
        settle(bus.as_ref(), &id).await?;
        let (tell, lost) = watch::channel(None);
        let beats = tokio::spawn(keep(Arc::clone(bus), id, tell));
        Ok(Self { lost, _beats: AbortOnDropHandle::new(beats) })
    }

    /// Waits until the bus is ours no more, and tells why: those of another ledger have taken it
    /// over, or it was left for another bus.
    pub(crate) async fn lost(&self) -> UsageError {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => UsageError(why.clone().unwrap_or_default()),
            // Who looks after it ends only with us.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Refused where another installation lives on the bus that is moved to, or has lived there.
pub(crate) async fn check_vacant(
    bus: &dyn Bus,
    ledger: &dyn Ledger,
    to: &Destination,
) -> anyhow::Result<()> {
    if is_another(bus.tenant().await?.as_ref(), &ledger.id().await?) {
        return Err(UsageError(format!(
            "{to} is used with another ledger: it is no empty bus. Give this installation one of its \
             own, or another prefix"
        ))
        .into());
    }
    Ok(())
}

/// Why two ledgers cannot be.
const TWO_LEDGERS: &str = "another process uses this bus with another ledger, and processes that \
    share a bus share one ledger and one lake: give all of them the same `ledger.url` \
    (docs/scale-out.md), stop the other one, or give this installation a `prefix` of its own on the \
    bus";

fn refusal() -> UsageError {
    UsageError(TWO_LEDGERS.to_owned())
}

async fn settle(bus: &dyn Bus, ledger: &str) -> anyhow::Result<()> {
    let found = bus.tenant().await?;
    if is_another(found.as_ref(), ledger) {
        tracing::warn!(
            seconds = SILENCE.as_secs(),
            "the bus was last used with another ledger; waiting whether somebody still does"
        );
        let since = SystemClock.instant();
        while SystemClock.since(since) < SILENCE {
            tokio::time::sleep(LOOK).await;
            let now = bus.tenant().await?;
            if !is_another(now.as_ref(), ledger) {
                break;
            }
            if now != found {
                return Err(refusal().into());
            }
        }
    }
    say(bus, ledger).await?;
    // Somebody may have come at the same moment.
    match is_another(bus.tenant().await?.as_ref(), ledger) {
        true => Err(refusal().into()),
        false => Ok(()),
    }
}

/// Says again and again that we are there, unless another process of ours has just said it.
async fn keep(bus: Arc<dyn Bus>, ledger: String, lost: watch::Sender<Option<String>>) {
    let mut heard = None;
    loop {
        tokio::time::sleep(BEAT).await;
        let why = match look(bus.as_ref(), &ledger, &mut heard).await {
            Ok(why) => why,
            Err(error) => {
                tracing::debug!(%error, "the bus did not tell whose it is");
                None
            }
        };
        if let Some(why) = why {
            tracing::error!("{why}");
            lost.send_replace(Some(why));
            return;
        }
    }
}

/// Why the bus is ours no more.
async fn look(
    bus: &dyn Bus,
    ledger: &str,
    heard: &mut Option<Tenant>,
) -> Result<Option<String>, BusError> {
    if let Some(refusal) = bus.mark().await?.as_ref().and_then(Mark::refusal) {
        return Ok(Some(refusal));
    }
    *heard = beat(bus, ledger, heard.as_ref()).await?;
    Ok(is_another(heard.as_ref(), ledger).then(|| TWO_LEDGERS.to_owned()))
}

/// Whose the bus is now.
async fn beat(
    bus: &dyn Bus,
    ledger: &str,
    heard: Option<&Tenant>,
) -> Result<Option<Tenant>, BusError> {
    let found = bus.tenant().await?;
    if is_another(found.as_ref(), ledger) || (found.is_some() && found.as_ref() != heard) {
        return Ok(found);
    }
    say(bus, ledger).await?;
    bus.tenant().await
}

async fn say(bus: &dyn Bus, ledger: &str) -> Result<(), BusError> {
    let beat = bus.tenant().await?.map_or(0, |found| found.beat) + 1;
    bus.put_tenant(&Tenant { ledger: ledger.to_owned(), beat }).await
}

fn is_another(tenant: Option<&Tenant>, ledger: &str) -> bool {
    tenant.is_some_and(|tenant| tenant.ledger != ledger)
}
