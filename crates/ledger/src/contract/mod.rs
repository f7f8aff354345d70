//! The contract suite: what every ledger must do, run against each implementation.
//!
//! An implementation calls [`all`] with a way to open a fresh ledger. Each scenario is a sentence;
//! a broken promise panics with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken contract ends the test")]

mod batches;
mod given;
mod keeping;
mod leases;
mod runs;
mod together;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::Ledger;

/// A fresh ledger, and the way to move its time.
pub struct Given {
    /// Empty, and nobody else's.
    pub ledger: Arc<dyn Ledger>,
    /// The same ledger, opened once more, as another process has it.
    pub other: Arc<dyn Ledger>,
    /// The time of the database that grants leases.
    pub time: Box<dyn DatabaseTime>,
}

/// The database's time. Where it cannot be moved, moving it means waiting.
#[async_trait]
pub trait DatabaseTime: Send + Sync {
    /// Lets so much time pass.
    async fn pass(&self, by: Duration);
}

/// Makes fresh ledgers.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A fresh one.
    async fn given(&self) -> Given;
}

/// Runs all scenarios, each with a fresh ledger.
pub async fn all(fixture: &dyn Fixture) {
    runs::a_run_is_opened_and_ended_once(fixture.given().await).await;
    runs::runs_are_listed_the_latest_first(fixture.given().await).await;
    runs::a_crash_leaves_interrupted_runs(fixture.given().await).await;
    runs::the_parts_of_a_run_are_linked_and_counted(fixture.given().await).await;
    runs::the_end_of_a_run_is_an_audit_event(fixture.given().await).await;
    batches::a_batch_written_twice_is_there_once(fixture.given().await).await;
    batches::totals_run_from_the_epochs_start(fixture.given().await).await;
    batches::a_batch_across_what_was_counted_is_refused_whole(fixture.given().await).await;
    batches::sound_counts_have_no_findings(fixture.given().await).await;
    batches::whatever_does_not_add_up_is_found(fixture.given().await).await;
    batches::layers_are_compared_where_both_have_a_batchs_end(fixture.given().await).await;
    batches::what_only_the_lake_knows_is_filled_in(fixture.given().await).await;
    batches::a_ledger_ahead_of_the_lake_is_taken_back(fixture.given().await).await;
    batches::who_has_lost_a_layer_takes_nothing_of_it_back(fixture.given().await).await;
    batches::each_batch_has_one_audit_event(fixture.given().await).await;
    batches::the_largest_checksums_wrap_around(fixture.given().await).await;
    keeping::quarantine_keeps_each_record_once_until_it_is_decided(fixture.given().await).await;
    keeping::records_of_a_batch_that_was_not_told_are_kept_before_it_is_counted(
        fixture.given().await,
    )
    .await;
    keeping::a_large_record_is_kept_in_part(fixture.given().await).await;
    keeping::the_youngest_cursor_is_kept(fixture.given().await).await;
    keeping::a_layer_that_stopped_is_listed_until_it_works_again(fixture.given().await).await;
    keeping::metadata_have_a_history_and_no_secrets(fixture.given().await).await;
    keeping::what_a_source_completes_or_finds_again_is_no_new_version(fixture.given().await).await;
    keeping::retention_bounds_the_tables_and_keeps_the_totals(fixture.given().await).await;
    keeping::retention_by_number_keeps_the_latest(fixture.given().await).await;
    leases::one_holds_a_lease_and_each_grant_has_a_higher_token(fixture.given().await).await;
    leases::a_lease_that_ran_out_is_not_renewed(fixture.given().await).await;
    leases::many_are_granted_and_given_back_at_once(fixture.given().await).await;
    workers::workers_see_each_other_until_they_are_gone(fixture.given().await).await;
    workers::a_beat_prolongs_what_is_held_and_tells_what_was_lost(fixture.given().await).await;
    workers::who_waits_is_heard_and_the_furthest_counts(fixture.given().await).await;
    workers::a_change_of_the_metadata_is_a_new_revision(fixture.given().await).await;
    workers::runs_of_workers_that_are_alive_are_not_interrupted(fixture.given().await).await;
    together::of_many_at_once_one_gets_the_lease_and_tokens_grow(fixture.given().await).await;
    together::all_who_ask_for_the_id_first_are_told_the_same(fixture.given().await).await;
    together::what_several_record_at_once_is_counted_once_and_whole(fixture.given().await).await;
    together::a_layer_that_two_reconcile_at_once_is_filled_once(fixture.given().await).await;
    together::events_are_seen_in_one_order_while_they_come(fixture.given().await).await;
    together::a_run_that_ends_while_batches_come_leaves_no_part_open(fixture.given().await).await;
    together::metadata_that_two_store_at_once_are_one_version(fixture.given().await).await;
    together::of_cursors_noted_at_once_the_youngest_is_kept(fixture.given().await).await;
}

/// The same for who writes for long: others get their turn meanwhile. A server sees to that at once;
/// for a file it is to be run with a clock that moves.
pub async fn in_turns(fixture: &dyn Fixture) {
    let given = fixture.given().await;
    together::many_records_that_are_refused_keep_nobody_from_telling_that_it_lives(given).await;
}
