//! Settings, systems and entities, secrets, and their validation.
//!
//! The only crate that reads settings files and the environment. What it hands out is checked:
//! every problem of a run is found at once and told with file, line, column and what would be
//! right. Secrets stay references until [`Secrets::resolve`] is asked for their values.

mod address;
mod conform;
mod document;
mod environment;
mod error;
mod init;
mod locate;
mod mask;
mod metadata;
mod nearest;
mod schemas;
mod secrets;
mod settings;
mod validate;

pub use alluvium_model::quantity::{ByteSize, Period};

pub use environment::Environment;
pub use error::{ConfigError, Finding, Findings};
pub use init::init_files;
pub use metadata::{Metadata, Named, Part, PartCheck, Reach};
pub use schemas::{ConnectorSchemas, SchemaCatalog, render_schema, schemas};
pub use secrets::{Secrets, resolve};
pub use settings::{
    BucketCredentials, BucketPlace, BusSettings, BusType, DEFAULT_SETTINGS, EmbeddedBusSettings,
    HttpSettings, KafkaBusSettings, LakePlace, LakeSettings, LayerSettings, LedgerSettings,
    LoadOptions, LogFormat, LogLevel, LogSettings, MetadataSettings, NatsBusSettings,
    NatsTlsSettings, RetrySettings, RuntimeSettings, S3Settings, Settings,
};
pub use validate::validate;
