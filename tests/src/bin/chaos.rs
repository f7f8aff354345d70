//! `chaos`: workers are killed again and again, and at the end everything must be right.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "this package is tests: a failure is a panic that says what was seen"
)]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use alluvium_testkit::is_root;
use alluvium_tests::chaos::{Bus, Ledger, Options, run};

const USAGE: &str = "\
chaos [--bus embedded|nats|kafka] [--ledger sqlite|postgres] [--workers 3] [--kafka BROKERS]
      [--kills 200] [--least 200] [--records 60000] [--seed N]
      [--seconds 3000] [--memory 1000] [--quiet] [-o json]

  --bus      which bus; default: embedded
  --ledger   which ledger; default: sqlite with the embedded bus, else postgres
  --workers  so many share the bus, if it can be shared
  --kafka    a real cluster, `host:port`, in place of librdkafka's mock; it is left alone
  --kills    so many kills are to be survived
  --records  about so many records are told
  --seed     what everything follows from; default: another one each time
  --seconds  after so many seconds there are no more faults, once each kind has come
  --least    so many kills there must be by then; default: all
  --memory   a worker or a command may have so much memory, in MiB
  --quiet    says nothing until the end
  -o json    the report as one line of JSON";

/// Added to the arguments in a namespace of our own.
const INSIDE: &str = "--inside";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (options, json) = match options(&args) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if args.last().is_none_or(|last| last != INSIDE) {
        enter_namespace(&args, &options);
    }
    let report = run(&options);
    let good = report["good"] == true;
    if json {
        println!("{report}");
    } else {
        for (name, value) in report.as_object().unwrap() {
            match value.as_array() {
                Some(lines) => lines.iter().for_each(|line| println!("  {line}")),
                None => println!("{name:<13} {value}"),
            }
        }
    }
    if good {
        return ExitCode::SUCCESS;
    }
    eprintln!("again: {}", options.command());
    ExitCode::FAILURE
}

/// Goes on in a mount namespace of its own, if there can be one: the disk that gets full is seen by
/// nobody else, and goes with the last process, however that ends. Who is not root becomes it there.
fn enter_namespace(args: &[String], options: &Options) {
    if !options.fills_disks() {
        return;
    }
    let flags: &[&str] =
        if is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let mut unshare = Command::new("unshare");
    unshare.args(flags);
    let tried = Command::new("unshare").args(flags).arg("true").output();
    if tried.is_ok_and(|tried| tried.status.success()) {
        let error = unshare.arg(std::env::current_exe().unwrap()).args(args).arg(INSIDE).exec();
        eprintln!("no namespace can be entered: {error}");
    }
}

/// What the arguments ask for, and whether the report is JSON.
fn options(args: &[String]) -> Result<(Options, bool), String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut options = Options {
        bus: Bus::Embedded,
        ledger: Ledger::Sqlite,
        brokers: None,
        workers: 3,
        kills: 200,
        seed: u64::from(now.subsec_nanos()),
        seconds: 3_000,
        least: u64::MAX,
        records: 60_000,
        memory: 1_000,
        quiet: false,
    };
    let (mut json, mut ledger) = (false, None);
    let mut args = args.iter();
    while let Some(name) = args.next() {
        match name.as_str() {
            INSIDE => {}
            "--quiet" => options.quiet = true,
            "-o" => match args.next().map(String::as_str) {
                Some("json") => json = true,
                _ => return Err("`-o` takes `json`".to_owned()),
            },
            "--bus" => {
                let bus = args.next().map(String::as_str).unwrap_or_default();
                options.bus = Bus::named(bus).ok_or(format!("`{bus}` is no bus"))?;
            }
            "--ledger" => {
                let name = args.next().map(String::as_str).unwrap_or_default();
                ledger = Some(Ledger::named(name).ok_or(format!("`{name}` is no ledger"))?);
            }
            "--kafka" => {
                let brokers = args.next().ok_or("`--kafka` needs an address, `host:port`")?;
                options.brokers = Some(brokers.clone());
            }
            name => {
                let field = match name {
                    "--kills" => &mut options.kills,
                    "--records" => &mut options.records,
                    "--seed" => &mut options.seed,
                    "--seconds" => &mut options.seconds,
                    "--least" => &mut options.least,
                    "--workers" => &mut options.workers,
                    "--memory" => &mut options.memory,
                    _ => return Err(format!("`{name}` is no option")),
                };
                let value = args.next().and_then(|value| value.parse().ok());
                *field = value.ok_or(format!("`{name}` needs a number"))?;
            }
        }
    }
    options.least = options.least.min(options.kills);
    options.ledger = ledger.unwrap_or(options.bus.ledger());
    Ok((options, json))
}
