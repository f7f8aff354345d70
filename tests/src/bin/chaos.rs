//! `chaos`: workers are killed again and again, and at the end everything must be right.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "this package is tests: a failure is a panic that says what was seen"
)]

use std::process::ExitCode;
use std::time::SystemTime;

use alluvium_tests::chaos::{Bus, Options, run};

const USAGE: &str = "\
chaos [--bus embedded] [--kills 200] [--records 60000] [--seed N] [--seconds 1800]
      [--memory MIB] [--quiet] [--json]

  --bus      which bus
  --kills    so many kills are to be survived
  --records  about so many records are told
  --seed     what everything follows from; default: another one each time
  --seconds  longer than this the faults may not take
  --memory   a worker may have so much memory, in MiB
  --quiet    says nothing until the end
  --json     the report as one line of JSON";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (options, json) = match options(&args) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
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
    let Options { bus, kills, records, seed, .. } = options;
    let bus = bus.name();
    eprintln!("again: chaos --bus {bus} --kills {kills} --records {records} --seed {seed}");
    ExitCode::FAILURE
}

/// What the arguments ask for, and whether the report is JSON.
fn options(args: &[String]) -> Result<(Options, bool), String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut options = Options {
        bus: Bus::Embedded,
        kills: 200,
        seed: u64::from(now.subsec_nanos()),
        seconds: 1_800,
        records: 60_000,
        memory: 1_500,
        quiet: false,
    };
    let mut json = false;
    let mut args = args.iter();
    while let Some(name) = args.next() {
        match name.as_str() {
            "--quiet" => options.quiet = true,
            "--json" => json = true,
            "--bus" => {
                let bus = args.next().map(String::as_str).unwrap_or_default();
                options.bus = Bus::named(bus).ok_or(format!("`{bus}` is no bus"))?;
            }
            name => {
                let field = match name {
                    "--kills" => &mut options.kills,
                    "--records" => &mut options.records,
                    "--seed" => &mut options.seed,
                    "--seconds" => &mut options.seconds,
                    "--memory" => &mut options.memory,
                    _ => return Err(format!("`{name}` is no option")),
                };
                let value = args.next().and_then(|value| value.parse().ok());
                *field = value.ok_or(format!("`{name}` needs a number"))?;
            }
        }
    }
    Ok((options, json))
}
