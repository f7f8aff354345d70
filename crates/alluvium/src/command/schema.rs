//! `alluvium schema`: the JSON Schemas that editors and checks use.

use anyhow::Context;

use crate::cli::{Cli, Schema};
use crate::exit::Exit;
use crate::wiring;

/// Writes the schemas, or checks that they stand as they would be written.
pub(crate) fn run(cli: &Cli, args: &Schema) -> anyhow::Result<Exit> {
    let catalog = wiring::catalog(&wiring::registry())?;
    let folder = &args.folder;
    let mut differs = false;
    for (name, schema) in alluvium_config::schemas(&catalog) {
        let text = alluvium_config::render_schema(&schema)?;
        let path = folder.join(name);
        if args.check {
            let same = std::fs::read_to_string(&path).is_ok_and(|found| found == text);
            if !same {
                eprintln!("{} is not what `alluvium schema` writes", path.display());
            }
            differs |= !same;
            continue;
        }
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        if !cli.quiet {
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(Exit::of(!differs))
}
