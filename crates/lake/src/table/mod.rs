//! Delta tables with exactly one writer each.
//!
//! Where several processes share the work, the writer is the owner whose token is the highest in
//! the log.
//!
//! The log entries are written here: a commit costs what it changes, where the library's own
//! commit lists the log and keeps what it read. Any Delta reader reads the tables.

mod append;
mod checkpoint;
mod cleanup;
mod commit;
mod compact;
mod deletion;
mod entry;
mod garbage;
mod log;
mod mark;
mod owner;
mod read;
mod replace;
mod rewrite;
mod schema;
mod stage;
mod state;
mod stats;
mod step;
mod tombstone;
mod travel;

use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use serde_json::Value;
use url::Url;

pub use checkpoint::{CheckpointDraft, CheckpointWritten};
pub use cleanup::LogCleaned;
pub use commit::{Commit, CommitOutcome};
pub use compact::{Compacted, Compaction, CompactionOutcome, CompactionPolicy, Moved};
pub use garbage::{Garbage, GarbageRemoved};
pub use mark::{Mark, Standing};
pub use owner::OWNER;
pub use read::{Scan, ScanBatch};
pub use replace::Replacement;
pub use stage::StagedFile;
pub use state::{DataFile, FileId};
pub use step::Step;
pub use travel::Versions;

use crate::{Lake, LakeError};
use entry::Entry;
use schema::Fit;
use state::State;

/// So often a table is looked at anew when another process creates or changes it at the same time.
const ATTEMPTS: usize = 5;

/// What a table is to be.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Where it stands in the lake.
    pub path: Path,
    /// What it is, for people.
    pub description: String,
    /// Its columns, the partition column among them. Metadata of the fields is kept in the table.
    pub schema: SchemaRef,
    /// The boolean column by which it is partitioned.
    pub partition_by: Option<&'static str>,
    /// Whether rows of its files may be deleted.
    pub deletion_vectors: bool,
    /// The columns of whose values each file's entry tells the least and the greatest.
    pub stats: Vec<String>,
}

/// An open table: the files it consists of now, in memory. One handle writes; any number may read.
#[derive(Debug)]
pub struct Table {
    lake: Lake,
    path: Path,
    schema: SchemaRef,
    partition_by: Option<String>,
    deletion_vectors: bool,
    stats: Vec<String>,
    state: State,
    /// A commit broke off: whether its entry stands in the log is not known. The table is to be
    /// opened anew.
    doubtful: bool,
}

impl Table {
    /// Opens the table for its writer, and makes it if it is not there. Columns that the
    /// description has and the table has not are added if they allow null; any other difference is
    /// a [`LakeError::Mismatch`]. A newest log entry that is torn is set aside, with one warning.
    pub async fn open_or_create(lake: &Lake, spec: TableSpec) -> Result<Table, LakeError> {
        schema::check(&spec)?;
        for _ in 0..ATTEMPTS {
            let Some(state) = log::load(lake, &spec.path, log::Torn::SetAside).await? else {
                log::append(lake, &spec.path, 0, &Entry::creation(lake, &spec)?).await?;
                continue;
            };
            state.check_protocol(&spec.path, spec.deletion_vectors)?;
            owner::admit(lake, &spec.path, &state)?;
            match schema::fit(&spec, &state.metadata)? {
                Fit::Exact(schema) => {
                    return Ok(Table {
                        lake: lake.clone(),
                        path: spec.path,
                        schema,
                        partition_by: spec.partition_by.map(str::to_owned),
                        deletion_vectors: spec.deletion_vectors,
                        stats: spec.stats,
                        state,
                        doubtful: false,
                    });
                }
                Fit::Grown(metadata) => {
                    let entry = Entry::new_metadata(lake, &metadata)?;
                    log::append(lake, &spec.path, state.version + 1, &entry).await?;
                }
            }
        }
        Err(LakeError::Bug(format!("{} does not come to rest: who else writes it?", spec.path)))
    }

    /// Opens a table to read it as it stands; `None` if there is none.
    pub async fn open(lake: &Lake, path: &Path) -> Result<Option<Table>, LakeError> {
        let Some(state) = log::load(lake, path, log::Torn::Refuse).await? else { return Ok(None) };
        let deletion_vectors = state.protocol.has_deletion_vectors();
        state.check_protocol(path, deletion_vectors)?;
        Ok(Some(Table {
            lake: lake.clone(),
            path: path.clone(),
            schema: schema::of(&state.metadata)?,
            partition_by: state.metadata.partition_columns.first().cloned(),
            deletion_vectors,
            stats: Vec::new(),
            state,
            doubtful: false,
        }))
    }

    /// The version of the newest log entry taken over.
    pub fn version(&self) -> i64 {
        self.state.version
    }

    /// The number that the newest commit with this application id carried.
    pub fn txn(&self, app_id: &str) -> Option<i64> {
        self.state.txns.get(app_id).copied()
    }

    /// The application ids that begin so and have a number.
    pub fn txns_of(&self, prefix: &str) -> impl Iterator<Item = (&str, i64)> {
        let all = self.state.txns.iter().map(|(app_id, number)| (app_id.as_str(), *number));
        all.filter(move |(app_id, _)| app_id.starts_with(prefix))
    }

    /// What the newest commit that carried anything said of itself: [`Commit::info`].
    pub fn commit_info(&self) -> Option<&Value> {
        self.state.info.as_ref()
    }

    /// The table's files, by id.
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.state.files.values()
    }

    /// The file with this id, if it is still part of the table.
    pub fn file(&self, id: FileId) -> Option<&DataFile> {
        self.state.files.get(&id)
    }

    /// The file at this path, relative to the table, if it is part of the table.
    pub fn file_by_path(&self, path: &str) -> Option<&DataFile> {
        self.state.by_path.get(path).and_then(|id| self.state.files.get(id))
    }

    /// How many rows the table has.
    pub fn rows(&self) -> u64 {
        self.files().map(|file| file.rows - file.deleted.len()).sum()
    }

    /// The table's columns, the partition column among them.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Where the table stands in the lake.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the table stands, for other readers.
    pub fn url(&self) -> Url {
        self.lake.url_of(&self.path)
    }

    /// The lake's clock.
    pub(crate) fn clock(&self) -> &dyn alluvium_model::Clock {
        self.lake.clock().as_ref()
    }

    fn path_of(&self, relative: &str) -> Result<Path, LakeError> {
        state::join(&self.path, relative)
    }
}
