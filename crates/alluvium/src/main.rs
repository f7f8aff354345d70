//! The binary: command line and wiring. The only crate that names concrete connectors and backends.

mod buses;
mod cli;
mod command;
mod demo;
mod destination;
mod exit;
mod output;
mod push;
mod tenancy;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::Exit;

/// Bootstrap first, with what may fail before anything runs; then the runtime.
fn main() -> ExitCode {
    share_memory();
    let cli = Cli::parse();
    // Several TLS libraries are linked in; this one is meant. Only the first call counts.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("alluvium: TLS was set up twice");
        return ExitCode::from(Exit::Failed.code());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("alluvium: cannot start threads: {error}");
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let code = match runtime.block_on(command::run(cli)) {
        Ok(exit) => exit.code(),
        Err(error) => exit::report(&error).code(),
    };
    // What still runs in the background has had its time to drain.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ExitCode::from(code)
}

/// The allocator of glibc gives each thread a heap of its own, and keeps there what was freed. With
/// our many threads a first load would hold half as much memory again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "a call into libc that only sets a number, before any thread is there"
)]
fn share_memory() {
    // SAFETY: `mallopt` takes two integers by value and may be called at any time.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Other allocators share their memory as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn share_memory() {}
