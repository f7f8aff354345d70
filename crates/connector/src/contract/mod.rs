//! What every connector must keep, as checks that run against any of them.
//!
//! A connector's tests implement [`Subject`], a small world of rows that its source shows, and
//! list the checks with [`contract_suite!`](crate::contract_suite).

mod checks;
mod fits;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::clock::ManualClock;
use alluvium_model::{EntitySpec, Source, SourceError, SystemSpec};
use async_trait::async_trait;

pub use checks::*;
pub use fits::misfit;
pub use walk::{Walked, drain, order_of, text_of};

use crate::{ConnectContext, Registry};

/// A secret that subjects plant in their `connection`, if it takes one.
pub const CANARY: &str = "canary-8b1f-do-not-show";

/// A source under test, with one entity whose rows have a key `id` (an integer) and a value
/// `value` (text).
#[async_trait]
pub trait Subject: Send {
    /// A registry that has the connector.
    fn registry(&self) -> Registry;

    /// The system. Its connection carries [`CANARY`] wherever a secret may stand.
    fn system(&self) -> SystemSpec;

    /// The entity as it is declared. Its pages are small, so that three rows need two of them.
    fn entity(&self) -> EntitySpec;

    /// The debug output of the connection's settings.
    fn connection_debug(&self) -> String;

    /// Inserts or updates a row in the source. Later calls are later in the source's own order.
    async fn put(&mut self, id: i64, value: &str);

    /// Arranges that the next run brings a page without records whose cursor moved. False if this
    /// connector never gives one.
    async fn move_quietly(&mut self) -> bool;

    /// Makes the source limit the rate. False if sources of this type know no limits.
    async fn limit_rate(&mut self) -> bool;

    /// Makes the source fail in all the ways it can, one after the other; false after the last.
    async fn fail_next(&mut self) -> bool;
}

/// A connected subject, with the clock that it goes by.
pub struct Rig {
    /// What is tested.
    pub subject: Box<dyn Subject>,
    /// The clock of the context.
    pub clock: Arc<ManualClock>,
    context: ConnectContext,
}

impl Rig {
    /// A rig around a subject.
    #[allow(clippy::unwrap_used, reason = "a constant date")]
    pub fn new(subject: impl Subject + 'static) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap()));
        let context = ConnectContext::new(clock.clone());
        Self { subject: Box::new(subject), clock, context }
    }

    /// A new source, as after a restart.
    pub async fn connect(&self) -> Result<Box<dyn Source>, SourceError> {
        self.subject.registry().connect(&self.subject.system(), self.context.clone()).await
    }

    /// A new source, and the entity as the source completes it.
    #[allow(clippy::expect_used, reason = "a test ends where its source does not connect")]
    pub async fn open(&self) -> (Box<dyn Source>, EntitySpec) {
        let mut source = self.connect().await.expect("the source connects");
        let declared = [self.subject.entity()];
        let found = source.discover(&declared).await.expect("the source discovers");
        let found = found.all().expect("the entity fits the source");
        let entity = found.into_iter().find(|e| e.name == declared[0].name);
        (source, entity.expect("a declared entity stays"))
    }

    /// Puts a row, and lets a minute pass.
    pub async fn put(&mut self, id: i64, value: &str) {
        self.subject.put(id, value).await;
        self.clock.advance(Duration::from_secs(60));
    }
}

/// Lists the checks of the contract as tests. `$make` is an async function that makes a
/// [`Subject`].
#[macro_export]
macro_rules! contract_suite {
    ($make:path) => {
        $crate::contract_suite!(@each $make:
            discover_may_be_repeated
            every_record_fits_the_declared_columns
            a_poll_may_be_repeated_with_the_same_bytes_and_sequences
            a_new_connection_goes_on_from_a_cursor
            a_then_b_then_a_are_three_changes
            a_quiet_run_brings_nothing_new
            an_empty_page_may_move_the_cursor
            acknowledging_twice_changes_nothing
            a_rate_limit_is_reported_as_such
            no_error_and_no_debug_output_shows_a_secret
            an_unknown_setting_is_refused
        );
    };
    (@each $make:path: $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::contract::$check($crate::contract::Rig::new($make().await)).await;
            }
        )*
    };
}
