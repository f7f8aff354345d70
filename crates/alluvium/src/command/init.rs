//! `alluvium init`: the files of a new project.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use anyhow::Context;

use crate::cli::{Cli, Init};
use crate::exit::{Exit, UsageError};

/// Writes the files, none over one that is there.
pub(crate) fn run(cli: &Cli, args: &Init) -> anyhow::Result<Exit> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let files = alluvium_config::init_files();
    if let Some((name, _)) = files.iter().find(|(name, _)| folder.join(name).exists()) {
        let text = format!("{} is there already; nothing was written", folder.join(name).display());
        return Err(UsageError(text).into());
    }
    for (name, text) in files {
        let path = folder.join(name);
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(UsageError(format!("{} is there already", path.display())).into());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", path.display()));
            }
        };
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        if !cli.quiet {
            eprintln!("wrote {}", path.display());
        }
    }
    if !cli.quiet {
        eprintln!("next: `alluvium validate`, then `alluvium run`");
    }
    Ok(Exit::Done)
}
