//! Two tables of versions held against each other, in bounded memory.
//!
//! First every row of both goes into a sum: versions fall into parts by their hash, and parts with
//! equal sums are equal. Only of parts that differ the fingerprints are kept and compared, so many
//! at a time as memory allows.

use alluvium_model::StageError;

use super::prints::{Print, Prints};

/// Into so many parts versions fall.
const PARTS: usize = 4096;
/// So many fingerprints are held in memory at a time.
const AT_A_TIME: u64 = 4_000_000;

/// How many versions differ, and in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) only_in_table: u64,
    pub(super) only_in_rebuild: u64,
    pub(super) differing: u64,
}

/// A version that differs, by the hashes of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    OnlyInTable(u128),
    OnlyInRebuild(u128),
    Differing { table: u128, rebuild: u128 },
}

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// Some of the versions that differ.
    pub(super) found: Vec<Found>,
}

/// Compares two tables. Of each kind of difference `limit` versions are given. `progress` is told
/// how many of how many rows have been read.
pub(super) async fn compare(
    table: &mut Prints,
    rebuild: &mut Prints,
    limit: usize,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Outcome, StageError> {
    let (all, mut read) = (table.rows() + rebuild.rows(), 0);
    let mut count = |rows: u64| {
        read += rows;
        progress(read.min(all), all);
    };
    let (a, b) = (Sums::of(table, &mut count).await?, Sums::of(rebuild, &mut count).await?);
    let mut outcome = Outcome::default();
    for parts in portions(&a, &b) {
        let table = prints_of(table, &parts).await?;
        let rebuild = prints_of(rebuild, &parts).await?;
        tokio::task::block_in_place(|| merge(table, rebuild, limit, &mut outcome));
    }
    Ok(outcome)
}

/// How many rows a part has, and the sum over them.
struct Sums(Vec<(u64, u128)>);

impl Sums {
    async fn of(
        prints: &mut Prints,
        count: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Self, StageError> {
        let mut sums = vec![(0, 0u128); PARTS];
        let mut waiting = 0;
        let mut each = |print: Print, _: &_, _| {
            let sum = &mut sums[part_of(&print)];
            *sum = (sum.0 + 1, sum.1.wrapping_add(print.row));
            waiting += 1;
            if waiting == 10_000 {
                count(waiting);
                waiting = 0;
            }
            true
        };
        prints.each(&mut each).await?;
        count(waiting);
        Ok(Self(sums))
    }
}

fn part_of(print: &Print) -> usize {
    (print.version >> 116) as usize % PARTS
}

/// The parts that differ, so many together as are compared at a time.
fn portions(a: &Sums, b: &Sums) -> Vec<Vec<bool>> {
    let mut portions = Vec::new();
    let (mut parts, mut rows) = (vec![false; PARTS], 0);
    for (at, (a, b)) in a.0.iter().zip(&b.0).enumerate().filter(|(_, (a, b))| a != b) {
        if rows > 0 && rows + a.0 + b.0 > AT_A_TIME {
            portions.push(std::mem::replace(&mut parts, vec![false; PARTS]));
            rows = 0;
        }
        parts[at] = true;
        rows += a.0 + b.0;
    }
    if rows > 0 {
        portions.push(parts);
    }
    portions
}

/// The fingerprints of some parts, sorted.
async fn prints_of(prints: &mut Prints, parts: &[bool]) -> Result<Vec<Print>, StageError> {
    let mut chosen = Vec::new();
    let mut each = |print: Print, _: &_, _| {
        if parts[part_of(&print)] {
            chosen.push(print);
        }
        true
    };
    prints.each(&mut each).await?;
    tokio::task::block_in_place(|| chosen.sort_unstable());
    Ok(chosen)
}

/// Compares sorted fingerprints, version by version.
fn merge(table: Vec<Print>, rebuild: Vec<Print>, limit: usize, outcome: &mut Outcome) {
    let (mut a, mut b) = (table.as_slice(), rebuild.as_slice());
    while let Some(version) = first(a).into_iter().chain(first(b)).min() {
        let (rows_a, rows_b) = (take(&mut a, version), take(&mut b, version));
        let (left, right) = without_equal(rows_a, rows_b);
        let pairs = left.len().min(right.len());
        for at in 0..left.len().max(right.len()) {
            let found = match (left.get(at), right.get(at)) {
                (Some(table), Some(rebuild)) if at < pairs => {
                    Found::Differing { table: *table, rebuild: *rebuild }
                }
                (Some(row), _) => Found::OnlyInTable(*row),
                (_, Some(row)) => Found::OnlyInRebuild(*row),
                (None, None) => continue,
            };
            outcome.note(found, limit);
        }
    }
}

fn first(prints: &[Print]) -> Option<u128> {
    prints.first().map(|print| print.version)
}

/// Takes the rows of one version off the front.
fn take<'p>(prints: &mut &'p [Print], version: u128) -> &'p [Print] {
    let n = prints.iter().take_while(|print| print.version == version).count();
    let (rows, rest) = prints.split_at(n);
    *prints = rest;
    rows
}

/// What is left of both sides once rows that both have are taken away, each as often as it is there.
fn without_equal(a: &[Print], b: &[Print]) -> (Vec<u128>, Vec<u128>) {
    let mut right: Vec<u128> = b.iter().map(|print| print.row).collect();
    let mut left = Vec::new();
    for print in a {
        match right.iter().position(|row| *row == print.row) {
            Some(at) => drop(right.swap_remove(at)),
            None => left.push(print.row),
        }
    }
    (left, right)
}

impl Tally {
    /// Whether nothing differs.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Outcome {
    fn note(&mut self, found: Found, limit: usize) {
        let count = match found {
            Found::OnlyInTable(_) => &mut self.tally.only_in_table,
            Found::OnlyInRebuild(_) => &mut self.tally.only_in_rebuild,
            Found::Differing { .. } => &mut self.tally.differing,
        };
        *count += 1;
        if *count <= limit as u64 {
            self.found.push(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(rows: &[(u128, u128)]) -> Vec<Print> {
        let mut prints: Vec<Print> =
            rows.iter().map(|(version, row)| Print { version: *version, row: *row }).collect();
        prints.sort_unstable();
        prints
    }

    #[test]
    fn a_version_is_missing_doubled_or_another_and_equal_ones_are_none_of_it() {
        let mut outcome = Outcome::default();
        let table = prints(&[(1, 10), (2, 20), (2, 20), (3, 30), (5, 50)]);
        let rebuild = prints(&[(1, 10), (2, 20), (3, 31), (4, 40)]);
        merge(table, rebuild, 9, &mut outcome);
        let tally = Tally { only_in_table: 2, only_in_rebuild: 1, differing: 1 };
        assert_eq!(outcome.tally, tally);
        assert_eq!(
            outcome.found,
            [
                Found::OnlyInTable(20),
                Found::Differing { table: 30, rebuild: 31 },
                Found::OnlyInRebuild(40),
                Found::OnlyInTable(50),
            ]
        );
    }

    #[test]
    fn no_more_than_asked_for_are_given_and_all_are_counted() {
        let mut outcome = Outcome::default();
        let table: Vec<(u128, u128)> = (0..10).map(|n| (n, n)).collect();
        merge(prints(&table), Vec::new(), 3, &mut outcome);
        assert_eq!((outcome.tally.only_in_table, outcome.found.len()), (10, 3));
    }
}
