//! What the documentation shows works as it is shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alluvium_tests::platform::without_settings;
use alluvium_tests::{TestPlatform, binary};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The blocks of a page whose fence is marked so.
fn blocks(page: &str, mark: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match open.as_mut() {
            Some(_) if line.trim_start().starts_with("```") => blocks.extend(open.take()),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
            None if line.trim() == format!("```{mark}") => open = Some(String::new()),
            None => {}
        }
    }
    blocks
}

/// The lines of a page that stand in no block of code.
fn prose(page: &str) -> Vec<&str> {
    let mut inside = false;
    let outside = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    });
    outside.collect()
}

/// Where a page's links lead within the repository.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        // What stands in a code span may look like a link.
        let text: String = line.split('`').step_by(2).collect();
        let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        found.extend(targets.filter(|target| !target.contains("://")).map(str::to_owned));
    }
    found
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |title: &str| {
        let kept: String = title.trim().to_lowercase().chars().filter(kept).collect();
        kept.replace(' ', "-")
    };
    let headings = prose(page).into_iter().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// All pages below a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(pages(&entry.path()));
        } else if name.ends_with(".md") {
            found.push(entry.path());
        }
    }
    found
}

/// Runs a script in the folder, with the binary under test as `alluvium`.
fn shell(folder: &Path, script: &str) -> Output {
    let beside = binary().canonicalize().unwrap().parent().unwrap().to_owned();
    let mut command = Command::new("sh");
    without_settings(&mut command);
    let script = format!("PATH='{}':\"$PATH\"\n{script}", beside.display());
    command.args(["-euc", &script]).current_dir(folder).output().unwrap()
}

/// Runs the blocks of a page that are marked so, one after the other, in an empty folder.
fn follow(page: &str) {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let blocks = blocks(&text, "sh test");
    assert!(!blocks.is_empty(), "{page} marks no block with ```sh test");
    let platform = TestPlatform::empty();
    for block in blocks {
        let done = shell(platform.folder(), &block);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{block}\n{said}");
    }
}

#[test]
fn the_commands_of_the_readme_work_in_their_order() {
    follow("README.md");
}

#[test]
fn the_commands_of_getting_started_work_in_their_order() {
    follow("docs/getting-started.md");
}

#[test]
fn the_commands_of_the_page_on_queries_work_in_their_order() {
    follow("docs/query.md");
}

#[test]
fn blocks_are_found_by_their_mark() {
    let page =
        "a\n```sh\nno\n```\n```sh test\nalluvium one\nalluvium two\n```\n```sh test\nthree\n```\n";
    assert_eq!(blocks(page, "sh test"), ["alluvium one\nalluvium two\n", "three\n"]);
}

#[test]
fn every_link_of_every_page_leads_to_a_file_and_to_its_heading() {
    let pages = pages(&root());
    assert!(pages.len() > 30, "only {} pages", pages.len());
    let mut astray = Vec::new();
    for page in &pages {
        for link in links(&fs::read_to_string(page).unwrap()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let place = match file {
                "" => page.clone(),
                file => page.with_file_name(file),
            };
            let is_heading = || {
                let text = fs::read_to_string(&place).unwrap_or_default();
                anchors(&text).iter().any(|heading| heading == anchor)
            };
            if !place.exists() || !(anchor.is_empty() || is_heading()) {
                astray.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(astray.is_empty(), "{astray:#?}");
}

#[test]
fn links_and_anchors_are_found_as_their_readers_find_them() {
    let page = "# Where `it` is: A-b\n[a](x.md#y), `[b](no)`, [`c`](d/)\n\
                ```sh\n# no\n[e](no)\n```\n[f](https://f.example)\n";
    assert_eq!(links(page), ["x.md#y", "d/"]);
    assert_eq!(anchors(page), ["where-it-is-a-b"]);
}

#[test]
fn a_new_project_is_valid_and_is_not_written_over() {
    let platform = TestPlatform::empty();
    platform.run(&["init"]).ok();
    platform.run(&["validate"]).ok();
    platform.run(&["init"]).ended(2).told(&["there already"]);
}

#[test]
fn a_new_project_is_made_in_silence_where_that_is_asked_for() {
    let platform = TestPlatform::empty();
    let made = platform.run(&["init", "--quiet"]).ok();
    assert_eq!((made.stdout.as_str(), made.stderr.as_str()), ("", ""));
    platform.run(&["validate", "--quiet"]).ok();
    let written = platform.run(&["schema", "schemas", "--quiet"]).ok();
    assert_eq!(written.stderr, "");
    platform.run(&["init", "--quiet"]).ended(2).told(&["there already"]);
}

#[test]
fn the_schemas_in_the_documentation_are_current() {
    let done = shell(&root(), "alluvium schema --check docs/schema");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn all_examples_are_valid() {
    // Where secrets are referred to, a file beside tells which, as users fill it in.
    let script =
        "if [ -f example.env ]; then set -a; . ./example.env; set +a; fi; alluvium validate";
    let mut seen = 0;
    for entry in fs::read_dir(root().join("config/examples")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            seen += 1;
            let done = shell(&folder, script);
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}\n{said}", folder.display());
        }
    }
    assert!(seen >= 3, "only {seen} examples");
}
