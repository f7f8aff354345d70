//! The connector SDK: registry, HTTP helper, retry, rate limit, and the contract suite.
