//! Random histories through the stage, the table and back, held against the reference: changes late,
//! doubled and tied, columns not sent, keys changed, truncates, snapshots, columns that come and go;
//! batched anyhow, and with the index lost on the way.
//!
//! `ALLUVIUM_STREAMS` says how many streams each test runs, `ALLUVIUM_STREAMS_FROM` with which seed
//! it begins.

mod choices;
mod draft;

use alluvium_lake::index::{CurrentEntry, EventMeta, HiddenEntry, KeyIndex, VersionEntry};
use alluvium_layers::verify::verify;
use alluvium_layers::{RawReplay, SilverStage};
use alluvium_model::{Delivery, FetchLimit, Stage, Subscriber};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use self::choices::{Choices, choices};
use self::draft::{Draft, Theme, draft, resolved};
use crate::cases::run::{difference, table_rows};
use crate::platform::{Platform, Rows, Topic};
use crate::reference::{self, Told};

/// What is done before a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    FreshStage,
    IndexReopened,
    IndexLost,
    /// Another worker takes over, whose index is behind by what this one did.
    OtherWorker,
}

/// One delivery: so many further messages, with so many of those before again.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    before: Before,
    messages: u64,
    again: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Stream {
    choices: Choices,
    pages: Vec<Vec<Draft>>,
    steps: Vec<Step>,
}

fn step() -> impl Strategy<Value = Step> {
    let before = prop_oneof![
        4 => Just(Before::Nothing),
        1 => Just(Before::FreshStage),
        1 => Just(Before::IndexReopened),
        2 => Just(Before::IndexLost),
        3 => Just(Before::OtherWorker),
    ];
    (before, 1..6u64, prop_oneof![2 => Just(0), 1 => 0..4u64])
        .prop_map(|(before, messages, again)| Step { before, messages, again })
}

fn stream(theme: Theme) -> impl Strategy<Value = Stream> {
    let pages = prop::collection::vec(prop::collection::vec(draft(theme), 1..5), 1..14);
    (choices(theme), pages, prop::collection::vec(step(), 8))
        .prop_map(|(choices, pages, steps)| Stream { choices, pages, steps })
}

/// A topic, and what its messages say: records after each message, and all of them in order.
struct Published {
    topic: Topic,
    records: Vec<usize>,
    told: Vec<Told>,
}

fn publish(platform: &Platform, stream: &Stream) -> Published {
    let (choices, pages) = (stream.choices, resolved(&stream.pages));
    let mut topic = Topic::of(platform);
    for page in &pages {
        topic.records(page.iter().map(|draft| choices.record(draft, &pages)).collect());
    }
    let mut records = vec![0];
    for message in &topic.messages {
        records.push(records[records.len() - 1] + message.records as usize);
    }
    let told: Vec<Told> = pages.iter().flatten().map(|draft| choices.told(draft)).collect();
    assert_eq!(records.last(), Some(&told.len()));
    Published { topic, records, told }
}

fn prepare(before: Before, stage: Option<SilverStage>, platform: &mut Platform) -> SilverStage {
    match (before, stage) {
        (Before::Nothing, Some(stage)) => stage,
        (Before::IndexLost, stage) => {
            drop(stage);
            platform.index().clear().unwrap();
            platform.silver()
        }
        (Before::IndexReopened, stage) => {
            drop(stage);
            platform.open_index();
            platform.silver()
        }
        (Before::OtherWorker, stage) => {
            drop(stage);
            platform.change_index();
            platform.silver()
        }
        (Before::Nothing | Before::FreshStage, _) => platform.silver(),
    }
}

/// Applies what `published` holds in the stream's steps, and looks at the table after each.
async fn run(stream: &Stream) -> Result<(), String> {
    let mut platform = Platform::quick(stream.choices.entity());
    let published = publish(&platform, stream);
    let end = published.topic.end();
    if end == 0 {
        return Ok(());
    }
    let (mut stage, mut at) = (None, 0);
    for step in stream.steps.iter().cycle() {
        if at == end {
            break;
        }
        let mut open = prepare(step.before, stage, &mut platform);
        let (after, to) = (at.saturating_sub(step.again), (at + step.messages).min(end));
        apply(&mut open, &published.topic.delivery(after, to)).await?;
        (stage, at) = (Some(open), to);
        let told = &published.told[..published.records[to as usize]];
        let expected = reference::rows(&stream.choices.rules(), told);
        let actual = table_rows(&platform, &stream.choices.columns()).await;
        if expected != actual {
            return Err(format!("at offset {at}: {}", difference(&expected, &actual)));
        }
    }
    drop(stage);
    platform.change_index();
    indexes_agree(&platform).await?;
    let (in_steps, at_once) = (all_columns(&platform).await, at_once_from_raw(stream).await?);
    if in_steps == at_once { Ok(()) } else { Err(format!("{in_steps:#?}\nat once:\n{at_once:#?}")) }
}

/// That an index which follows the table comes to hold what one holds that is made anew.
pub(crate) async fn indexes_agree(platform: &Platform) -> Result<(), String> {
    let progress = platform.silver().progress().await.map_err(|error| error.to_string())?;
    let followed = told(platform.index());
    platform.index().clear().unwrap();
    let again = platform.silver().progress().await.map_err(|error| error.to_string())?;
    assert_eq!(progress, again);
    let anew = told(platform.index());
    let closings = platform.index().whole().unwrap().unwrap_or_default();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let agree = |(followed, anew): (&Line, &Line)| {
        // Closings that changed nothing of a key are known of it by one, and not by the other.
        let known = match followed.known == anew.known {
            true => followed.read == anew.read,
            false => closings.contains(&hex(followed.known.as_slice().max(&anew.known))),
        };
        followed.told == anew.told && known
    };
    match followed.len() == anew.len() && followed.iter().zip(&anew).all(agree) {
        true => Ok(()),
        false => {
            Err(format!("an index that followed has\n{followed:#?}\nand one made anew\n{anew:#?}"))
        }
    }
}

/// An entry of an index as it reads.
#[derive(Debug, Default)]
struct Line {
    told: String,
    known: Vec<u8>,
    read: bool,
}

/// What an index holds of each key, with names for numbers.
fn told(index: &KeyIndex) -> Vec<Line> {
    let names = index.names().unwrap();
    let (keys, more) = index.keys_from(0, usize::MAX).unwrap();
    assert_eq!(more, None);
    let named = |meta: &EventMeta| (names[&meta.run].clone(), names[&meta.batch].clone());
    let mut lines = Vec::new();
    for key in keys {
        let version = |version: &VersionEntry<'_>| {
            let place = (&names[&version.file], version.row, named(&version.meta));
            let meta = EventMeta { run: 0, batch: 0, ..version.meta };
            let values = without_later_columns(version.values);
            let version = VersionEntry { file: 0, row: 0, meta, values: &values, ..*version };
            format!("{place:?} {version:?}")
        };
        if let Some(bytes) = &key.current {
            let current = CurrentEntry::parse(bytes).unwrap();
            let (known, read) = (current.known.to_vec(), current.read);
            let open = current.open.as_ref().map(version);
            let told = format!("{} {} {open:?}", key.key, current.completed);
            lines.push(Line { told, known, read });
        }
        for bytes in &key.closed {
            let told = format!("{} {}", key.key, version(&VersionEntry::parse(bytes).unwrap()));
            lines.push(Line { told, ..Line::default() });
        }
        for bytes in &key.hidden {
            let hidden = HiddenEntry::parse(bytes).unwrap();
            let named = named(&hidden.meta);
            let meta = EventMeta { run: 0, batch: 0, ..hidden.meta };
            let values = hidden.values.map(without_later_columns);
            let hidden = HiddenEntry { meta, values: values.as_deref(), ..hidden };
            let told = format!("{} {named:?} {hidden:?}", key.key);
            lines.push(Line { told, ..Line::default() });
        }
    }
    lines
}

/// Stored values without the columns at their end that are null: whoever packed them before a column
/// came has it not, and it reads as null.
fn without_later_columns(values: &[u8]) -> Vec<u8> {
    let Some((&count, rest)) = values.split_first() else { return Vec::new() };
    assert!(count <= 8, "one byte says which are null");
    let Some((&nulls, rest)) = rest.split_first() else { return values.to_vec() };
    let is_null = |at: &u8| u16::from(nulls) >> at & 1 == 1;
    let count = (0..count).rfind(|at| !is_null(at)).map_or(0, |last| last + 1);
    let nulls = u16::from(nulls) & ((1 << count) - 1);
    [&[count, nulls as u8], rest].concat()
}

async fn apply(stage: &mut SilverStage, delivery: &Delivery) -> Result<(), String> {
    let applied = stage.apply(delivery).await.map_err(|error| error.to_string())?;
    for batch in &applied {
        if !batch.counts.is_conserved() {
            return Err(format!("the counts do not add up: {:?}", batch.counts));
        }
        if let Some(refused) = batch.quarantined.first() {
            return Err(format!("refused: {}: {}", refused.code, refused.reason));
        }
    }
    Ok(())
}

/// The rows of the same stream as one batch that is read again from raw, with every column.
async fn at_once_from_raw(stream: &Stream) -> Result<Rows, String> {
    let platform = Platform::quick(stream.choices.entity());
    let published = publish(&platform, stream);
    platform.raw(1).apply(&published.topic.all()).await.map_err(|error| error.to_string())?;
    let replay = RawReplay::open(platform.lake.clone(), platform.id()).await;
    let delivery = replay.unwrap().fetch(FetchLimit::default()).await.unwrap();
    assert_eq!(delivery.span.to, published.topic.end());
    apply(&mut platform.silver(), &delivery).await?;
    let found = verify(&platform.lake, &platform.entity, |_, _| {}).await;
    let found = found.map_err(|error| error.to_string())?;
    match found.checks.into_iter().find(|check| !check.holds) {
        Some(check) => Err(format!("verify finds {check:?}")),
        None => Ok(all_columns(&platform).await),
    }
}

/// Every column but the batch's id, which alone depends on the batches.
async fn all_columns(platform: &Platform) -> Rows {
    let mut rows = platform.silver_rows().await;
    rows.iter_mut().for_each(|row| drop(row.remove("_batch_id")));
    rows.sort_unstable();
    rows
}

fn number_from_environment(name: &str, otherwise: u64) -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a test may be told to insist")]
    let given = std::env::var(name);
    given.map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs streams of a theme, each of a seed of its own, and makes the first that fails small.
fn many_streams(theme: Theme) {
    let runtime = Runtime::new().unwrap();
    let first = number_from_environment("ALLUVIUM_STREAMS_FROM", 0);
    let count = number_from_environment("ALLUVIUM_STREAMS", 500);
    for seed in first..first + count {
        let mut runner = runner(seed);
        let tree = stream(theme).new_tree(&mut runner).unwrap();
        let outcome = runner
            .run_one(tree, |stream| runtime.block_on(run(&stream)).map_err(TestCaseError::fail));
        if let Err(TestError::Fail(why, minimal)) = outcome {
            panic!("seed {seed} of {theme:?}: {why}\n{}", minimal.told());
        }
        assert_eq!(outcome, Ok(true), "seed {seed} of {theme:?}");
    }
    println!("{count} streams from seed {first}");
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = ProptestConfig {
        max_shrink_iters: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

impl Stream {
    /// The stream for people, a record a line.
    fn told(&self) -> String {
        let pages = resolved(&self.pages);
        let page = |(n, page): (usize, &Vec<Draft>)| -> String {
            page.iter().map(|draft| format!("page {}: {draft:?}\n", n + 1)).collect()
        };
        let pages: String = pages.iter().enumerate().map(page).collect();
        format!("{:?}\n{pages}{:?}", self.choices, self.steps)
    }
}

#[test]
fn streams_of_changes_give_the_rows_that_the_rules_give() {
    many_streams(Theme::Changes);
}

#[test]
fn streams_with_snapshots_give_the_rows_that_the_rules_give() {
    many_streams(Theme::Snapshots);
}

#[test]
fn streams_with_scoped_snapshots_give_the_rows_that_the_rules_give() {
    many_streams(Theme::Scope);
}

#[test]
fn streams_whose_columns_come_and_go_give_the_rows_that_the_rules_give() {
    many_streams(Theme::Columns);
}
