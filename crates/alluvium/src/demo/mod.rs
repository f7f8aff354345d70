//! `alluvium demo`: a recorded week of earthquakes and a shop, ingested for real in a few seconds.
//!
//! A week passes in steps. In each, the feed shows a later moment, the shop's rows change, and both
//! are polled until raw, bronze and silver have landed what came: by the same parts, put together in
//! the same way, as in `alluvium run`.

mod feed;
mod folder;
mod report;
mod shop;

use std::time::Duration;

use alluvium_config::{LogFormat, Settings};
use alluvium_ledger::RunStatus;
use alluvium_model::{Clock, SystemClock, SystemName};
use alluvium_runtime::{Runtime, RuntimeHandle, Triggers};
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use self::feed::Feed;
use self::folder::Folder;
use self::shop::Shop;
use crate::cli::{self, Cli, Format, Run};
use crate::command;
use crate::exit::{Exit, UsageError};
use crate::wiring;

/// So many steps the demo has.
const STEPS: i64 = 8;
/// In so many the week passes where the demo goes on after its steps: something is left to happen.
const STEPS_TO_KEEP: i64 = 11;
/// Then so often something happens…
const PACE: Duration = Duration::from_secs(5);
/// … and so much time passes in the feed and the shop.
const LEAP_MS: i64 = 3_600_000;

/// Runs the demo.
pub(crate) async fn run(cli: &Cli, args: &cli::Demo) -> anyhow::Result<Exit> {
    if cli.output == Format::Csv {
        let text = "the demo shows several tables, and CSV has one header: ask for json or ndjson";
        return Err(UsageError(text.to_owned()).into());
    }
    command::trace("warn".to_owned(), LogFormat::Text)?;
    let folder = Folder::prepare(args.folder.as_deref())?;
    say(cli, &format!("the demo's folder is {}", folder.path().display()));
    let mut world = World::open(cli, &folder, args.keep).await?;
    let settings = folder.settings(cli)?;
    ingest(cli, &settings, &mut world).await?;
    let holds = Box::pin(report::show(cli, &settings, folder.path())).await?;
    if args.keep && holds {
        return go_on(cli, &settings, world).await;
    }
    Ok(Exit::of(holds))
}

/// What is ingested: a feed and a shop with one clock.
struct World {
    feed: Feed,
    shop: Shop,
    /// The time in it, in milliseconds since 1970.
    moment: i64,
    /// How much of it passes in a step.
    stride: i64,
}

impl World {
    async fn open(cli: &Cli, folder: &Folder, keep: bool) -> anyhow::Result<Self> {
        let feed = Feed::serve().await?;
        folder.fill(feed.address())?;
        let (begin, end) = feed.span();
        let shop = Shop::open(&folder.shop(), Timestamp::from_millisecond(begin)?).await?;
        let steps = if keep { STEPS_TO_KEEP } else { STEPS };
        say(cli, &format!("the feed is at http://{}, the shop in shop.db", feed.address()));
        // The last step goes up to the end, or over it by less than a step's milliseconds.
        Ok(Self { feed, shop, moment: begin, stride: (end - begin) / steps + 1 })
    }

    async fn pass(&mut self, milliseconds: i64) -> anyhow::Result<()> {
        self.moment += milliseconds;
        self.feed.move_to(self.moment);
        self.shop.go_on_until(Timestamp::from_millisecond(self.moment)?).await
    }
}

/// Lets the week pass, and ingests all systems in each step. All is durable and closed afterwards.
async fn ingest(cli: &Cli, settings: &Settings, world: &mut World) -> anyhow::Result<()> {
    let metadata = wiring::metadata(settings)?;
    let systems: Vec<_> = metadata.systems.iter().map(|system| system.name.clone()).collect();
    let wired = wiring::wire(settings, metadata).await?;
    let handle = Runtime::start(wired.platform.clone(), Triggers::Ignored).await?;
    let outcome = steps(cli, &handle, &systems, world).await;
    command::ingest::finish(&handle, &wired, settings).await;
    outcome
}

async fn steps(
    cli: &Cli,
    handle: &RuntimeHandle,
    systems: &[SystemName],
    world: &mut World,
) -> anyhow::Result<()> {
    for n in 1..=STEPS {
        let start = SystemClock.instant();
        world.pass(world.stride).await?;
        let came = poll(handle, systems).await?;
        let moment = Timestamp::from_millisecond(world.moment)?.strftime("%a %d %b %H:%M");
        let took = SystemClock.since(start).as_secs_f64();
        say(cli, &format!("step {n} of {STEPS}, {moment}: {came}; {took:.1} s"));
    }
    Ok(())
}

/// Runs each system once, until all layers have landed what came; tells what that was.
async fn poll(handle: &RuntimeHandle, systems: &[SystemName]) -> anyhow::Result<String> {
    let mut came = Vec::new();
    for system in systems {
        let report = handle.ingest(system, None, |_| {}).await?;
        if report.status != RunStatus::Succeeded {
            let reason = report.reason.unwrap_or_default();
            anyhow::bail!("the run of {system} did not succeed: {reason}");
        }
        came.extend(report.entities.iter().map(|entity| {
            let (polled, published) = (entity.polled, entity.published);
            format!("{} {polled} polled, {published} published", entity.entity)
        }));
    }
    Ok(came.join("; "))
}

/// Runs as `alluvium run` does while time passes, until it is interrupted.
async fn go_on(cli: &Cli, settings: &Settings, mut world: World) -> anyhow::Result<Exit> {
    say(cli, "going on: every 5 seconds an hour passes, and both are polled; Ctrl+C ends it");
    let _time = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(PACE).await;
            if let Err(error) = world.pass(LEAP_MS).await {
                tracing::warn!(%error, "time stands still in the demo");
                // The feed is served on as it is.
                std::future::pending::<()>().await;
            }
        }
    }));
    command::run::run(settings, &Run::default()).await
}

fn say(cli: &Cli, text: &str) {
    if !cli.quiet {
        eprintln!("{text}");
    }
}
