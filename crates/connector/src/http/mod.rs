//! The one way to speak HTTP to a source: bounded in time and size, patient with limits, and
//! silent about secrets.
//!
//! Errors name the host, the method and the label that the connector gave, never a URL: a query,
//! a path or a `Location` may carry a key.

mod answer;
mod auth;
mod client;
mod limit;
mod wait;

pub use answer::{Answer, next_link};
pub use auth::{ApiKeyPlace, Auth};
pub use client::{HttpClient, HttpSettings, Request};
pub use limit::{RateLimit, RateLimitSettings, RateLimits};
