//! An index that is behind its table follows it, commit by commit: the rows that came, the rows that
//! went and the side files tell what the writer of each commit had put into its own.
//!
//! It costs what the commits changed, where making the index anew costs the whole table. Each commit
//! is checked: as many entries must go as rows were deleted. Where that does not hold, or a file that
//! is needed is gone, the index is made anew. What merely cannot be reached now costs it nothing,
//! unless a commit brings so many new keys that they go into the index piece by piece.

mod arrived;
mod change;
mod expired;
mod halt;

use alluvium_lake::index::{KeyIndex, Reflects, continues};
use alluvium_lake::table::{Standing, Step};
use alluvium_lake::{FileId, Lake, Table};
use alluvium_model::{Epoch, Layer, StageError};

use super::closing::Closings;
use super::files::{FileNumbers, Names};
use super::hidden::{self, SideState};
use super::rebuild::rebuild;
use super::values::lake_error;
use super::{Shape, SilverStage, index_error};
use crate::ledger_note::LayerNote;
use arrived::Arrived;
use change::Change;
use expired::Removed;
use halt::Halt;

/// No commit with more rows of keys that are known is followed: they are held in memory.
const MOST_ROWS: u64 = 500_000;
/// A table is read anew rather than followed over half as many such rows as it has, and these.
const WORTH: u64 = 50_000;

/// A table at the version that an index reflects, and what of the index goes with it.
struct Place {
    table: Table,
    numbers: FileNumbers,
    closings: Closings,
}

/// A table that is followed while another process writes it: the next look goes on here.
pub(super) struct Followed {
    /// The shape with the columns that the table had when it was opened.
    shape: Shape,
    place: Place,
}

impl SilverStage {
    /// Brings the index to the version that the table is at by whoever writes it.
    pub(super) async fn follow_table(&mut self) -> Result<(), StageError> {
        // What an error leaves behind is opened anew.
        let followed = self.followed.take();
        let Some(_turn) = self.index.follow().await else { return Ok(()) };
        if let Some(followed) = followed {
            self.followed = Box::pin(self.go_on(followed)).await?;
        }
        if self.followed.is_none() {
            self.followed = Box::pin(self.begin()).await?;
        }
        Ok(())
    }

    /// Opens the table and makes the index fit it; `None` if there is no table.
    async fn begin(&self) -> Result<Option<Box<Followed>>, StageError> {
        let table = Table::open(&self.lake, &self.shape.path).await.map_err(lake_error)?;
        let Some(mut table) = table else { return Ok(None) };
        let shape = self.shape.standing(table.schema())?;
        if let Some(column) = shape.lacks(table.schema()) {
            return Err(StageError::Mismatch(format!(
                "{} has a column `{column}`, of which this process has not heard yet",
                table.path()
            )));
        }
        let note = LayerNote::of(&table, Layer::Silver, &shape.entity.id())?;
        let progress = note.map(|note| note.progress());
        let at = progress.map(|progress| (progress.epoch, progress.offset));
        let brought = bring(&self.lake, &table, at, &self.index, &shape);
        let closings = Box::pin(brought).await?;
        let numbers = FileNumbers::load(&self.index, &table).map_err(index_error)?;
        // Who follows collects no garbage, and need not know what is some.
        table.forget_buried(i64::MAX);
        let place = Place { table, numbers, closings };
        Ok(Some(Box::new(Followed { shape, place })))
    }

    /// Goes on with the commits that came since the last look: of the log these are read, and the
    /// entry before them. `None` if the table is to be opened anew.
    async fn go_on(&self, followed: Box<Followed>) -> Result<Option<Box<Followed>>, StageError> {
        let Followed { shape, place } = *followed;
        let reflects = self.index.reflects().map_err(index_error)?;
        if !reflects.is_some_and(|reflects| is_of(&reflects, &place.table, &shape)) {
            return Ok(None);
        }
        let mut follower = Follower::new(&self.lake, &self.index, &shape, place);
        // The columns are those of the table as it was opened.
        let known = follower.place.table.version();
        match follower.follow_all(known).await {
            Ok(()) => {}
            Err(Halt::Unfit(_)) => return Ok(None),
            Err(Halt::Failed(error)) => return Err(error),
        }
        let Follower { mut place, .. } = follower;
        place.table.forget_buried(i64::MAX);
        Ok(Some(Box::new(Followed { shape, place })))
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
    match Box::pin(follow(lake, table, index, shape)).await {
        Ok(closings) => return Ok(closings),
        Err(Halt::Failed(error)) => return Err(error),
        Err(Halt::Unfit(why)) => {
            tracing::info!(table = %table.path(), why, "the key index cannot follow its table");
        }
    }
    rebuild(lake, table, at, index, shape).await
}

/// Follows the table from the version on that the index reflects.
async fn follow(
    lake: &Lake,
    table: &Table,
    index: &KeyIndex,
    shape: &Shape,
) -> Result<Closings, Halt> {
    let reflects = index.reflects()?.ok_or_else(|| Halt::unfit("it is not there"))?;
    let closings = match index.whole()? {
        Some(whole) => Closings::read(&whole, shape.first)?,
        None => Closings::default(),
    };
    let from = reflects.mark.version;
    if from == table.version() {
        check(&reflects, table, shape)?;
        return Ok(closings);
    }
    if from > table.version() {
        return Err(Halt::unfit("it is of a version that the table has not got to"));
    }
    let past = table.back_to(from).await?;
    let past = past.ok_or_else(|| Halt::unfit("the log does not reach back to its version"))?;
    check(&reflects, &past, shape)?;
    let past = past.with_columns_of(table);
    let place = Place { numbers: FileNumbers::load(index, &past)?, table: past, closings };
    let mut follower = Follower::new(lake, index, shape, place);
    follower.worth = table.rows() / 2 + WORTH;
    follower.follow_to(table.version(), table.version()).await?;
    Ok(follower.place.closings)
}

/// That an index reflects the version that a table is at.
fn check(reflects: &Reflects, table: &Table, shape: &Shape) -> Result<(), Halt> {
    match is_of(reflects, table, shape) {
        true => Ok(()),
        false => Err(Halt::unfit("it was made for another table, or for other columns")),
    }
}

/// Whether an index reflects the version that a table is at, and has of its rows all columns that
/// the table had by then.
fn is_of(reflects: &Reflects, table: &Table, shape: &Shape) -> bool {
    reflects.mark.is(&table.mark())
        && continues(&reflects.columns, &shape.fingerprint)
        && continues(&shape.fingerprint_of(table.schema()), &reflects.columns)
}

/// An index on its way.
struct Follower<'a> {
    lake: &'a Lake,
    index: &'a KeyIndex,
    shape: &'a Shape,
    place: Place,
    /// How many rows of known keys came, and how many are worth it.
    rows: u64,
    worth: u64,
}

impl<'a> Follower<'a> {
    fn new(lake: &'a Lake, index: &'a KeyIndex, shape: &'a Shape, place: Place) -> Self {
        let worth = place.table.rows() / 2 + WORTH;
        Self { lake, index, shape, place, rows: 0, worth }
    }

    /// Follows all commits that there are. The shape has the columns of the version `known`.
    async fn follow_all(&mut self, known: i64) -> Result<(), Halt> {
        match self.place.table.look().await? {
            Standing::Same => Ok(()),
            Standing::Behind => {
                while self.step(known).await? {}
                Ok(())
            }
            Standing::Other => Err(Halt::unfit("the log no longer has the version it stands at")),
        }
    }

    /// Follows the commits up to a version. The shape has the columns of the version `known`.
    async fn follow_to(&mut self, version: i64, known: i64) -> Result<(), Halt> {
        let from = self.place.table.version();
        while self.place.table.version() < version {
            if !self.step(known).await? {
                return Err(Halt::unfit("an entry of the log is gone"));
            }
        }
        let (table, rows) = (self.place.table.path(), self.rows);
        let commits = version - from;
        tracing::info!(%table, commits, rows, "key index brought to the table's version");
        Ok(())
    }

    /// Follows the next commit; false if there is none.
    async fn step(&mut self, known: i64) -> Result<bool, Halt> {
        let before = self.place.table.txn(hidden::TXN);
        let Some(step) = self.place.table.step().await? else { return Ok(false) };
        let told = match self.place.table.txn(hidden::TXN) {
            Some(name) if before != Some(name) => self.side_file(name, before).await?,
            _ => SideState::default(),
        };
        let SideState { events, whole } = told;
        if let Some(whole) = &whole {
            self.place.closings = Closings::read(whole, self.shape.first)?;
        }
        let mark = self.place.table.mark();
        let fingerprint = &self.shape.fingerprint;
        match step {
            Step::Unknown => {
                return Err(Halt::unfit("another program wrote the table, or it was replaced"));
            }
            Step::Columns if mark.version > known => {
                return Err(Halt::unfit("the table has other columns"));
            }
            Step::Columns => self.index.adopt(&mark, fingerprint)?,
            Step::Moved { to, moved } => tokio::task::block_in_place(|| {
                self.place.numbers.move_rows(self.index, to.as_deref(), moved, &mark, fingerprint)
            })?,
            Step::Changed { added, deleted, emptied } if added.is_empty() && events.is_empty() => {
                let removed = Removed { deleted, emptied, whole };
                self.remove(removed, &mark).await?;
            }
            Step::Changed { added, deleted, .. } => {
                let mut names = Names::new(self.index)?;
                let mut arrived = Arrived::new(self.index, self.shape, &events);
                self.read(&added, &mut arrived, &mut names).await?;
                let change = Change { follower: self, arrived, events, deleted, whole };
                tokio::task::block_in_place(|| change.write(&mut names, &mark))?;
                for id in added {
                    let Some(file) = self.place.table.file(id) else { continue };
                    let (path, number) = (file.path.clone(), names.number(&file.path));
                    self.place.numbers.add(number, path);
                }
                self.place.numbers.keep_only(&self.place.table);
            }
        }
        Ok(true)
    }

    /// What a side file tells, which must follow the one before it.
    async fn side_file(&self, name: i64, before: Option<i64>) -> Result<SideState, Halt> {
        let columns = Some(self.shape.columns.as_str());
        let path = self.place.table.path();
        let (previous, state) = hidden::read(self.lake, path, name, columns).await?;
        match previous == before {
            true => Ok(state),
            false => Err(Halt::unfit("a side file does not follow the one before it")),
        }
    }

    /// Counts rows of known keys, and how many of the commit are held in all.
    fn count(&mut self, rows: u64, held: u64) -> Result<(), Halt> {
        self.rows += rows;
        match held > MOST_ROWS || self.rows > self.worth {
            true => Err(Halt::unfit("more is to be followed than is worth it")),
            false => Ok(()),
        }
    }

    /// The rows of files that came, those of closed versions first.
    async fn read(
        &mut self,
        files: &[FileId],
        arrived: &mut Arrived<'_>,
        names: &mut Names<'_>,
    ) -> Result<(), Halt> {
        for open in [false, true] {
            let table = &self.place.table;
            let is_open = |id: &FileId| table.file(*id).is_some_and(|f| f.current == Some(true));
            let files: Vec<_> = files.iter().copied().filter(|id| is_open(id) == open).collect();
            let mut scan = table.scan_files(&files, None)?;
            while let Some(rows) = scan.next().await {
                let (rows, before) = (rows?, arrived.rows.len());
                tokio::task::block_in_place(|| arrived.take(&self.place.table, &rows, names))?;
                let held = arrived.rows.len();
                self.count((held - before) as u64, held as u64)?;
            }
        }
        Ok(())
    }
}
