//! An index that is behind its table follows it, commit by commit: the rows that came, the rows that
//! went and the side files tell what the writer of each commit had put into its own.
//!
//! It costs what the commits changed, where making the index anew costs the whole table. Each commit
//! is checked: as many entries must go as rows were deleted. Where that does not hold, or a file that
//! is needed is gone, the index is made anew.

mod change;

use alluvium_lake::index::{Cells, IndexError, KeyIndex};
use alluvium_lake::table::Step;
use alluvium_lake::{FileId, Lake, Table};
use alluvium_model::{Epoch, Layer, StageError};

use super::closing::Closings;
use super::files::{FileNumbers, Names};
use super::hidden::{self, SideState};
use super::rebuild::rebuild;
use super::values::lake_error;
use super::versions::{MetaColumns, OwnedVersion, stored};
use super::{Shape, SilverStage, index_error};
use crate::ledger_note::LayerNote;
use change::{Change, Incoming};

/// No commit of more rows is followed: they are held in memory.
const MOST_ROWS: u64 = 500_000;
/// A table is read anew rather than followed over half as many rows as it has, and these.
const WORTH: u64 = 50_000;

impl SilverStage {
    /// Brings the index to the version that the table is at by whoever writes it.
    pub(super) async fn follow_table(&mut self) -> Result<(), StageError> {
        let table = match &mut self.followed {
            Some(table) => {
                let before = table.version();
                table.reload().await.map_err(lake_error)?;
                if table.version() == before {
                    return Ok(());
                }
                table
            }
            None => {
                let table = Table::open(&self.lake, &self.shape.path).await.map_err(lake_error)?;
                let Some(table) = table else { return Ok(()) };
                self.followed.insert(Box::new(table))
            }
        };
        let shape = self.shape.standing(table.schema())?;
        let note = LayerNote::read(table.commit_info(), Layer::Silver)?;
        let progress = note.map(|note| note.check(table, &shape.entity.id())).transpose()?;
        let at = progress.map(|progress| (progress.epoch, progress.offset));
        let Some(_turn) = self.index.follow().await else { return Ok(()) };
        bring(&self.lake, table, at, &self.index, &shape).await.map(drop)
    }
}

/// Makes `index` fit the version of `table`, which has got to the place `at` of its topic. Returns
/// the closings of the entity.
pub(super) async fn bring(
    lake: &Lake,
    table: &Table,
    at: Option<(Epoch, u64)>,
    index: &KeyIndex,
    shape: &Shape,
) -> Result<Closings, StageError> {
    let reflected = index.version(&shape.columns).map_err(index_error)?;
    if let Some(from) = reflected.filter(|from| *from <= table.version()) {
        match follow(lake, table, index, shape, from).await {
            Ok(Some(closings)) => return Ok(closings),
            Ok(None) => {}
            Err(error) => {
                let error = alluvium_model::error::chain(&error);
                tracing::info!(table = %table.path(), error, "the key index cannot follow");
            }
        }
    }
    rebuild(lake, table, at, index, shape).await
}

/// Follows the table from a version on; `None` if the index must be made anew.
async fn follow(
    lake: &Lake,
    table: &Table,
    index: &KeyIndex,
    shape: &Shape,
    from: i64,
) -> Result<Option<Closings>, StageError> {
    let closings = match index.whole().map_err(index_error)? {
        Some(whole) => Closings::read(&whole, shape.first)?,
        None => Closings::default(),
    };
    if from == table.version() {
        return Ok(Some(closings));
    }
    let Some(past) = table.back_to(from).await.map_err(lake_error)? else { return Ok(None) };
    let numbers = FileNumbers::load(index, &past).map_err(index_error)?;
    let mut follower = Follower { lake, index, shape, past, numbers, closings, rows: 0 };
    while follower.past.version() < table.version() {
        if !follower.step(table.rows() / 2 + WORTH).await? {
            return Ok(None);
        }
    }
    let Follower { closings, rows, .. } = follower;
    let commits = table.version() - from;
    tracing::info!(table = %table.path(), commits, rows, "key index brought to the table's version");
    Ok(Some(closings))
}

/// An index, and the table at the version that it reflects.
struct Follower<'a> {
    lake: &'a Lake,
    index: &'a KeyIndex,
    shape: &'a Shape,
    past: Table,
    numbers: FileNumbers,
    closings: Closings,
    /// How many rows were read.
    rows: u64,
}

impl Follower<'_> {
    /// Follows the next commit. False if the index must be made anew.
    async fn step(&mut self, worth: u64) -> Result<bool, StageError> {
        let before = self.past.txn(hidden::TXN);
        let Some(step) = self.past.step().await.map_err(lake_error)? else { return Ok(false) };
        let told = match self.past.txn(hidden::TXN) {
            Some(name) if before != Some(name) => self.side_file(name, before).await?,
            _ => Some(SideState::default()),
        };
        let Some(SideState { events, whole }) = told else { return Ok(false) };
        if let Some(whole) = &whole {
            self.closings = Closings::read(whole, self.shape.first)?;
        }
        let version = self.past.version();
        match step {
            Step::Unknown => Ok(false),
            Step::Moved { to, moved } => {
                let columns = &self.shape.columns;
                let moved = tokio::task::block_in_place(|| {
                    self.numbers.move_rows(self.index, to.as_deref(), moved, version, columns)
                });
                moved.map_err(index_error)?;
                Ok(true)
            }
            Step::Changed { added, deleted } => {
                let rows: u64 =
                    added.iter().filter_map(|id| self.past.file(*id)).map(|file| file.rows).sum();
                self.rows += rows;
                if rows > MOST_ROWS || self.rows > worth {
                    return Ok(false);
                }
                let mut names = Names::new(self.index).map_err(index_error)?;
                let rows = self.read(&added, &mut names).await?;
                let change = Change { follower: self, rows, events, deleted, whole };
                let followed = tokio::task::block_in_place(|| change.write(&mut names))?;
                for id in added {
                    let Some(file) = self.past.file(id) else { continue };
                    let (path, number) = (file.path.clone(), names.number(&file.path));
                    self.numbers.add(number, path);
                }
                self.numbers.keep_only(&self.past);
                Ok(followed)
            }
        }
    }

    /// A side file that follows the one before it; `None` if it follows another.
    async fn side_file(
        &self,
        name: i64,
        before: Option<i64>,
    ) -> Result<Option<SideState>, StageError> {
        let columns = Some(self.shape.columns.as_str());
        let read = hidden::read(self.lake, self.past.path(), name, columns).await;
        let (previous, state) = read.map_err(lake_error)?;
        Ok((previous == before).then_some(state))
    }

    /// The rows of files that came.
    async fn read(
        &self,
        files: &[FileId],
        names: &mut Names<'_>,
    ) -> Result<Vec<Incoming>, StageError> {
        let mut all = Vec::new();
        let mut scan = self.past.scan_files(files, None).map_err(lake_error)?;
        while let Some(rows) = scan.next().await {
            let rows = rows.map_err(lake_error)?;
            let Some(file) = self.past.file(rows.file) else { continue };
            let number = names.number(&file.path);
            let columns = MetaColumns::of(&rows.batch)?;
            let values = stored(&rows.batch, self.shape)?;
            let cells = Cells::of(values.columns());
            let cells = cells.map_err(|error| StageError::Mismatch(error.to_string()))?;
            for (at, row) in rows.rows.iter().enumerate() {
                let key = columns.key(at)?;
                let version = columns.version(at, self.shape, &values, names)?;
                let version = OwnedVersion { file: number, row: *row as u32, ..version };
                let values = (file.current == Some(true)).then(|| {
                    let mut bytes = Vec::new();
                    self.shape.codec.put(&cells, at, &mut bytes);
                    bytes
                });
                all.push(Incoming { key, version, values });
            }
        }
        Ok(all)
    }
}

fn damaged() -> StageError {
    index_error(IndexError::Damaged)
}
