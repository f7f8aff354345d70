//! The demo's folder: settings, systems and entities like anybody's, and the shop's database.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alluvium_config::{Environment, LoadOptions, Settings};
use anyhow::Context;

use crate::cli::Cli;
use crate::exit::UsageError;

const SETTINGS: &str = include_str!("../../../../demo/alluvium.toml");
const SYSTEMS: &str = include_str!("../../../../demo/systems.json");
const ENTITIES: &str = include_str!("../../../../demo/entities.json");

/// The folder. It stays when the demo ends.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder that was asked for, which must be new or empty; otherwise a new one under the
    /// system's folder for temporary files.
    pub(super) fn prepare(asked: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = asked else {
            let folder = tempfile::Builder::new().prefix("alluvium-demo-").tempdir();
            return Ok(Self(folder.context("cannot make a folder for the demo")?.keep()));
        };
        let context = || format!("cannot use the folder {}", path.display());
        std::fs::create_dir_all(path).with_context(context)?;
        if std::fs::read_dir(path).with_context(context)?.next().is_some() {
            let text = format!("{} is not empty; the demo wants a new folder", path.display());
            return Err(UsageError(text).into());
        }
        Ok(Self(path.canonicalize().with_context(context)?))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the shop's database is.
    pub(super) fn shop(&self) -> PathBuf {
        self.0.join("shop.db")
    }

    /// Writes settings, systems and entities; the feed is served at `feed`.
    pub(super) fn fill(&self, feed: SocketAddr) -> anyhow::Result<()> {
        let shop = serde_json::to_string(&self.shop())
            .map_err(|_| UsageError("the demo wants a folder whose path is UTF-8".to_owned()))?;
        let systems = SYSTEMS.replace("@FEED@", &feed.to_string()).replace("\"@SHOP@\"", &shop);
        for (name, text) in
            [("alluvium.toml", SETTINGS), ("systems.json", &systems), ("entities.json", ENTITIES)]
        {
            let path = self.0.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The settings of the folder, which no variable of the environment leads elsewhere.
    pub(super) fn settings(&self, cli: &Cli) -> anyhow::Result<Settings> {
        Ok(Settings::load(LoadOptions {
            path: Some(self.0.clone()),
            overrides: cli.set.clone(),
            environment: Environment::from_pairs::<String, String>([]),
        })?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_folder_that_holds_something_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Folder::prepare(Some(folder.path())).is_ok());
        std::fs::write(folder.path().join("mine"), "").unwrap();
        assert!(Folder::prepare(Some(folder.path())).is_err());
    }

    #[test]
    fn what_is_written_is_valid() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(Some(&temp.path().join("a \"new\" one"))).unwrap();
        folder.fill("127.0.0.1:1".parse().unwrap()).unwrap();
        let settings = folder.settings(&Cli::parse_from(["alluvium", "demo"])).unwrap();
        let metadata = crate::wiring::metadata(&settings).unwrap();
        assert_eq!((metadata.systems.len(), metadata.entities.len()), (2, 3));
        assert_eq!(metadata.systems[1].connection["path"], folder.shop().to_str().unwrap());
    }
}
