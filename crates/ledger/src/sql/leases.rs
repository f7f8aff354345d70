//! Leases.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_model::FencingToken;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::fields::{Fields, signed};
use super::statement::statement;
use super::{SqlLedger, Tx};
use crate::lease::{Lease, LeaseName};
use crate::{LedgerError, time};

const ACQUIRE: &str = include_str!("../../queries/lease_acquire.sql");
const RENEW: &str = include_str!("../../queries/lease_renew.sql");
const RELEASE: &str = include_str!("../../queries/lease_release.sql");
const ACQUIRE_MANY: &str = include_str!("../../queries/leases_acquire.sql");
const PROLONG_MANY: &str = include_str!("../../queries/leases_prolong.sql");
const TOKEN: &str = include_str!("../../queries/lease_token.sql");
const LIST: &str = include_str!("../../queries/lease_list.sql");

/// Leases with the tokens that they are held with.
pub(super) type Held = [(LeaseName, FencingToken)];

/// When a lease ends that is given back: before any time that somebody who wants to prolong it has
/// read, however long ago.
const GIVEN_BACK: Timestamp = Timestamp::UNIX_EPOCH;

/// So many leases go into one statement, which takes only so many values.
const AT_ONCE: usize = 2_000;

pub(super) async fn acquire(
    ledger: &SqlLedger,
    name: &LeaseName,
    holder: &str,
    ttl: Duration,
) -> Result<Option<FencingToken>, LedgerError> {
    const DOING: &str = "grant a lease";
    let now = ledger.now(DOING).await?;
    let row = statement(ACQUIRE)
        .bind(name.as_str())
        .bind(holder)
        .bind(now.as_millisecond())
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .fetch_optional(ledger.writer(), DOING)
        .await?;
    row.map(|row| Fields(&row).number("token").map(FencingToken)).transpose()
}

pub(super) async fn renew(
    ledger: &SqlLedger,
    name: &LeaseName,
    token: FencingToken,
    ttl: Duration,
) -> Result<bool, LedgerError> {
    const DOING: &str = "renew a lease";
    let now = ledger.now(DOING).await?;
    let done = statement(RENEW)
        .bind(name.as_str())
        .bind(signed(token.0))
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(done > 0)
}

pub(super) async fn release(
    ledger: &SqlLedger,
    name: &LeaseName,
    token: FencingToken,
) -> Result<bool, LedgerError> {
    const DOING: &str = "take a lease back";
    let now = ledger.now(DOING).await?;
    let done = statement(RELEASE)
        .bind(name.as_str())
        .bind(signed(token.0))
        .bind(time::text(now))
        .bind(time::text(GIVEN_BACK))
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(done > 0)
}

/// Takes those that are free. As the one writer, so that two who want the same do not wait for each
/// other.
pub(super) async fn acquire_many(
    ledger: &SqlLedger,
    names: &[LeaseName],
    holder: &str,
    ttl: Duration,
) -> Result<Vec<(LeaseName, FencingToken)>, LedgerError> {
    const DOING: &str = "grant leases";
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let (mut tx, now) = ledger.begin_at(DOING).await?;
    let mut granted = Vec::new();
    for names in names.chunks(AT_ONCE) {
        let rows = (0..names.len()).map(|n| format!("(${}, $4, $1, $2)", n + 5));
        let sql = with_rows(ACQUIRE_MANY, "{wanted}", rows);
        let acquire = statement(sql)
            .bind(holder)
            .bind(time::text(time::after(now, ttl)))
            .bind(time::text(now))
            .bind(now.as_millisecond());
        let acquire = names.iter().fold(acquire, |acquire, name| acquire.bind(name.as_str()));
        for row in acquire.fetch_all(&mut tx, DOING).await? {
            let row = Fields(&row);
            granted.push((LeaseName::read(row.get("name")?), FencingToken(row.number("token")?)));
        }
    }
    tx.commit(DOING).await?;
    Ok(granted)
}

/// Gives leases back.
pub(super) async fn release_many(ledger: &SqlLedger, held: &Held) -> Result<(), LedgerError> {
    const DOING: &str = "take leases back";
    let (mut tx, now) = ledger.begin_at(DOING).await?;
    prolong_many(&mut tx, held, now, GIVEN_BACK).await?;
    tx.commit(DOING).await
}

/// Sets until when leases are held, and tells of which that was done: none that has run out.
pub(super) async fn prolong_many(
    tx: &mut Tx,
    held: &Held,
    now: Timestamp,
    until: Timestamp,
) -> Result<BTreeSet<LeaseName>, LedgerError> {
    const DOING: &str = "prolong leases";
    let mut prolonged = BTreeSet::new();
    for held in held.chunks(AT_ONCE) {
        let rows = (0..held.len()).map(|n| format!("(${}, ${})", 2 * n + 3, 2 * n + 4));
        let sql = with_rows(PROLONG_MANY, "{held}", rows);
        let prolong = statement(sql).bind(time::text(now)).bind(time::text(until));
        let prolong = held.iter().fold(prolong, |prolong, (name, token)| {
            prolong.bind(name.as_str()).bind(signed(token.0))
        });
        for row in prolong.fetch_all(&mut *tx, DOING).await? {
            prolonged.insert(LeaseName::read(Fields(&row).get("name")?));
        }
    }
    Ok(prolonged)
}

/// The token with which a lease was granted last, also where it has run out since.
pub(super) async fn last_granted(
    tx: &mut Tx,
    name: &LeaseName,
) -> Result<Option<FencingToken>, LedgerError> {
    let row = statement(TOKEN).bind(name.as_str()).fetch_optional(&mut *tx, "look at a lease");
    row.await?.map(|row| Fields(&row).number("token").map(FencingToken)).transpose()
}

/// The statement with so many rows of values in the place that waits for them.
fn with_rows(sql: &str, place: &str, rows: impl Iterator<Item = String>) -> AssertSqlSafe<String> {
    let rows: Vec<String> = rows.collect();
    AssertSqlSafe(sql.replace(place, &rows.join(", ")))
}

pub(super) async fn list(ledger: &SqlLedger) -> Result<Vec<Lease>, LedgerError> {
    statement(LIST)
        .fetch_all(ledger.readers(), "list leases")
        .await?
        .iter()
        .map(|row| {
            let row = Fields(row);
            Ok(Lease {
                name: row.get("name")?,
                holder: row.get("holder")?,
                token: FencingToken(row.number("token")?),
                expires_at: row.time("expires_at")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluvium_model::clock::ManualClock;
    use alluvium_model::{Clock, EntityId};

    use super::*;
    use crate::{Ledger, Worker};

    /// A beat that began before the release and is written after it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_given_back_is_not_brought_to_life_by_a_beat_on_its_way() {
        const TTL: Duration = Duration::from_secs(10);
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap()));
        let path = folder.path().join("ledger.db");
        let open = || SqlLedger::open(path.clone(), Arc::clone(&clock) as _);
        let (ledger, other) = (Arc::new(open().await.unwrap()), open().await.unwrap());
        let orders: EntityId = "shop.orders".parse().unwrap();
        let name = LeaseName::poll(&orders);
        let held = ledger.acquire_leases(&[name], "a", TTL).await.unwrap();

        let mut before = other.begin("give it back").await.unwrap();
        let (beating, tokens) = (Arc::clone(&ledger), held.clone());
        let worker = Worker { id: "a".to_owned(), ..Worker::default() };
        let beat = tokio::spawn(async move { beating.beat(&worker, &tokens, TTL).await });
        // So long that it waits for its turn to write; were it shorter, nothing would be shown.
        tokio::time::sleep(Duration::from_millis(200)).await;
        clock.advance(Duration::from_secs(1));
        prolong_many(&mut before, &held, clock.now(), GIVEN_BACK).await.unwrap();
        before.commit("give it back").await.unwrap();
        let lost = beat.await.unwrap().unwrap().lost;
        assert_eq!(lost, held.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        // Nor by one that had read the time before it was given back.
        let (earlier, later) = (clock.now() - Duration::from_secs(5), clock.now() + TTL);
        let mut tx = other.begin("prolong it").await.unwrap();
        assert!(prolong_many(&mut tx, &held, earlier, later).await.unwrap().is_empty());
    }
}
