//! Rate limits, one per credential: all entities, and all systems, that use it share it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alluvium_model::{Clock, SourceError};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Auth;

/// How often a credential may be used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Requests per second on average; 0.1 is one in ten seconds.
    #[schemars(range(min = 0.000_1, max = 10_000.0))]
    pub requests_per_second: f64,
    /// How many requests may go out at once before the average holds. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub burst: u32,
}

impl RateLimitSettings {
    fn quota(self) -> Result<Quota, SourceError> {
        let bad = |what: &str| SourceError::Misconfigured(format!("`rate_limit`: {what}"));
        if !(0.000_1..=10_000.0).contains(&self.requests_per_second) {
            return Err(bad("`requests_per_second` must lie between 0.0001 and 10000"));
        }
        let burst = self.burst.try_into().map_err(|_| bad("`burst` must be at least 1"))?;
        Quota::with_period(Duration::from_secs_f64(1.0 / self.requests_per_second))
            .map(|quota| quota.allow_burst(burst))
            .ok_or_else(|| bad("`requests_per_second` is too large"))
    }
}

/// The rate limits of a process.
#[derive(Default)]
pub struct RateLimits(Mutex<Vec<Entry>>);

struct Entry {
    host: String,
    auth: Auth,
    limit: Arc<RateLimit>,
}

impl RateLimits {
    /// The limit of a credential at a host. Who comes first decides how tight it is.
    pub fn of(
        &self,
        host: &str,
        auth: &Auth,
        settings: Option<RateLimitSettings>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<RateLimit>, SourceError> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter().find(|e| e.host == host && e.auth == *auth) {
            if entry.limit.settings != settings {
                tracing::warn!(host, "two rate limits for one credential; the first one holds");
            }
            return Ok(entry.limit.clone());
        }
        let limiter = settings.map(|s| s.quota().map(RateLimiter::direct)).transpose()?;
        let limit = Arc::new(RateLimit {
            settings,
            limiter,
            paused_until: Mutex::default(),
            clock: clock.clone(),
        });
        entries.push(Entry { host: host.to_owned(), auth: auth.clone(), limit: limit.clone() });
        Ok(limit)
    }
}

/// The limit of one credential.
pub struct RateLimit {
    settings: Option<RateLimitSettings>,
    limiter: Option<DefaultDirectRateLimiter>,
    paused_until: Mutex<Option<Instant>>,
    clock: Arc<dyn Clock>,
}

impl RateLimit {
    /// Waits until a request may go out. A pause that the source asked for and that lasts longer
    /// than `patience` is an error instead.
    pub(crate) async fn ready(&self, patience: Duration) -> Result<(), SourceError> {
        if let Some(left) = self.pause_left() {
            if left > patience {
                return Err(SourceError::RateLimited(left));
            }
            tokio::time::sleep(left).await;
        }
        let Some(limiter) = &self.limiter else { return Ok(()) };
        while let Err(not_yet) = limiter.check() {
            tokio::time::sleep(not_yet.wait_time_from(DefaultClock::default().now())).await;
        }
        Ok(())
    }

    /// The source asked for a pause: whoever uses this credential keeps it.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = self.clock.instant() + wait;
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |already| already.max(until)));
    }

    fn pause_left(&self) -> Option<Duration> {
        let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until?.saturating_duration_since(self.clock.instant());
        (!left.is_zero()).then_some(left)
    }
}

fn one() -> u32 {
    1
}
