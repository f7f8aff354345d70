//! What describes systems and entities: the shape of `systems.json` and `entities.json`.

mod column;
mod entity;
mod system;

pub use column::{Column, ColumnType, History, TimeUnit};
pub use entity::{
    Deletes, EntitySpec, Layers, Load, SchemaEvolution, SequenceBy, SilverLayer, SnapshotOrder,
    SnapshotPolicy, ToggledLayer,
};
pub use system::{CatchUp, SystemSpec, Trigger};
