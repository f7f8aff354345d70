//! Tells the binary which revision of the sources it is built from, as `ALLUVIUM_REVISION`.
//!
//! Git's own files are read, and watched: this runs again when HEAD moves, and at no other build.
//! Outside of a repository, as in an image, `ALLUVIUM_COMMIT` says it; else it is `unknown`.

use std::fs;
use std::path::{Path, PathBuf};

/// So many digits name a revision.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ALLUVIUM_COMMIT");
    let given = option_env!("ALLUVIUM_COMMIT").filter(|commit| *commit != "unknown");
    let revision = given.map(str::to_owned).or_else(head);
    let revision = revision.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=ALLUVIUM_REVISION={}", revision.get(..DIGITS).unwrap_or(revision));
}

/// The commit of HEAD, if this is a repository.
fn head() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let folder = git_folder(root)?;
    // A worktree has a HEAD of its own and shares the rest.
    let shared = fs::read_to_string(folder.join("commondir")).ok();
    let shared = shared.map_or_else(|| folder.clone(), |path| folder.join(path.trim()));
    // The log of HEAD grows with every commit, also where the branch's own file is packed away.
    watched(&folder.join("logs/HEAD"));
    let head = watched(&folder.join("HEAD"))?;
    let Some(branch) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().into()) };
    watched(&shared.join(branch)).map(|commit| commit.trim().to_owned()).or_else(|| {
        let packed = watched(&shared.join("packed-refs"))?;
        let named = packed.lines().find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '));
        named.map(str::to_owned)
    })
}

fn git_folder(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = fs::read_to_string(&git).ok()?;
    Some(root.join(text.trim().strip_prefix("gitdir: ")?))
}

/// What a file says; it is watched if it is there. One that is not would be taken for changed at
/// every build.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}
