//! What a data folder is called, by which processes share the work: a name made once, that stays with
//! the key indexes in the folder and is lost with them.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use uuid::Uuid;

/// The name of the folder, made if it has none.
pub(super) fn name_of(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join("node");
    let found = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        found => found.with_context(|| format!("cannot read {}", file.display()))?,
    };
    match found.trim() {
        name if Uuid::try_parse(name).is_ok() => Ok(name.to_owned()),
        // None, or half of one, written as the machine stopped.
        _ => make(&file),
    }
}

fn make(file: &Path) -> anyhow::Result<String> {
    let name = Uuid::new_v4().to_string();
    let aside = file.with_extension("new");
    let write = || {
        let mut aside = fs::File::create(&aside)?;
        aside.write_all(name.as_bytes())?;
        aside.sync_all()
    };
    let written = write().and_then(|()| fs::rename(&aside, file));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_name_and_gets_one_where_it_has_none_that_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let name = name_of(folder.path()).unwrap();
        assert_eq!(name_of(folder.path()).unwrap(), name);
        fs::write(folder.path().join("node"), &name[..9]).unwrap();
        let another = name_of(folder.path()).unwrap();
        assert_ne!(another, name);
        assert_eq!(name_of(folder.path()).unwrap(), another);
    }
}
