//! The binary: command line and wiring. The only crate that names concrete connectors and backends.

mod buses;
mod cli;
mod command;
mod demo;
mod destination;
mod exit;
mod gate;
mod output;
mod push;
mod tenancy;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::Exit;

/// What was freed goes back to the system, whichever of our many threads had it.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bootstrap first, with what may fail before anything runs; then the runtime.
fn main() -> ExitCode {
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
