//! Health, metrics and runs over HTTP. The only crate that knows HTTP serving.
