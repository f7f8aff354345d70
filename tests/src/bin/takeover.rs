//! `takeover`: how soon a large table is another worker's when its owner dies, goes, or another
//! worker comes.

use std::process::ExitCode;

use alluvium_tests::takeover::{Options, run};

const USAGE: &str = "\
takeover [--rows 1000000] [--changes 10000] [--lease 10] [--limit 20] [--quiet] [-o json]

  --rows     rows of the first load, and so keys of the index
  --changes  changes of each batch after it
  --lease    how long a worker that is gone keeps its work, in seconds
  --limit    so many seconds after that, at most, all layers have the next batch
  --quiet    says nothing until the end
  -o json    the report as one line of JSON; also `--output json`";

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
    let report = run(&options);
    if json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the arguments ask for, and whether the report is JSON.
fn options(args: &[String]) -> Result<(Options, bool), String> {
    let (mut options, mut json) = (Options::default(), false);
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let field = match name.as_str() {
            "--quiet" => {
                options.quiet = true;
                continue;
            }
            "-o" | "--output" => {
                json = args.next().is_some_and(|form| form == "json");
                if !json {
                    return Err(format!("`{name}` takes `json`"));
                }
                continue;
            }
            "--rows" => &mut options.rows,
            "--changes" => &mut options.changes,
            "--lease" => &mut options.lease,
            "--limit" => &mut options.limit,
            _ => return Err(format!("`{name}` is no option")),
        };
        let value = args.next().and_then(|value| value.parse().ok());
        *field = value.ok_or(format!("`{name}` needs a number"))?;
    }
    options.check()?;
    Ok((options, json))
}
