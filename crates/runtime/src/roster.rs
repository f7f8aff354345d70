//! Who is to do what, as every worker computes it by itself from the same list of workers.
//!
//! By rendezvous hashing: of all who could do a piece of work, the one does it whose name and the
//! work's together hash highest. So nobody has to be asked, each has about the same share, and where
//! a worker comes or goes only its own share moves.

use std::collections::BTreeSet;

use alluvium_ledger::{LeaseName, Worker};
use alluvium_model::{EntityId, Layer, Role, SystemName};
use xxhash_rust::xxh3::xxh3_64;

/// A piece of work that one worker does at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// A layer of an entity.
    Layer(Layer, EntityId),
    /// The triggers of a system.
    Triggers(SystemName),
    /// What is done once for all.
    House,
}

impl Unit {
    /// The lease by which it is owned.
    pub(crate) fn lease(&self) -> LeaseName {
        match self {
            Self::Layer(layer, entity) => LeaseName::layer(*layer, entity),
            Self::Triggers(system) => LeaseName::triggers(system),
            Self::House => LeaseName::house(),
        }
    }

    fn is_for(&self, roles: &BTreeSet<Role>) -> bool {
        match self {
            Self::Layer(layer, _) => roles.contains(&Role::from(*layer)),
            Self::Triggers(_) => roles.contains(&Role::Connect),
            Self::House => !roles.is_empty(),
        }
    }
}

/// The worker that is to do it, if there is one who can. Whoever claims it goes before all others,
/// and those who stay before those who do one thing and end.
pub(crate) fn owner<'w>(workers: &'w [Worker], unit: &Unit) -> Option<&'w str> {
    let lease = unit.lease();
    let of = |fits: &dyn Fn(&Worker) -> bool| {
        let fitting = workers.iter().filter(|worker| fits(worker));
        fitting.max_by_key(|worker| (weight(&worker.id, &lease), &worker.id))
    };
    let found = of(&|worker| worker.claims.contains(&lease))
        .or_else(|| of(&|worker| worker.stays && unit.is_for(&worker.roles)))
        .or_else(|| of(&|worker| unit.is_for(&worker.roles)));
    found.map(|worker| worker.id.as_str())
}

/// The worker that is to do it where the present one is gone.
pub(crate) fn heir(workers: &[Worker], unit: &Unit) -> Option<String> {
    let first = owner(workers, unit)?;
    let others: Vec<Worker> = workers.iter().filter(|worker| worker.id != first).cloned().collect();
    owner(&others, unit).map(str::to_owned)
}

fn weight(worker: &str, lease: &LeaseName) -> u64 {
    xxh3_64(format!("{worker}\n{lease}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn worker(id: &str, roles: &[Role]) -> Worker {
        let (roles, claims) = (roles.iter().copied().collect(), BTreeSet::new());
        Worker { id: id.to_owned(), roles, stays: true, claims, revision: 0 }
    }

    fn units() -> Vec<Unit> {
        let entity = |n: usize| format!("shop.table{n}").parse::<EntityId>().unwrap();
        let of = |n| Layer::ALL.map(|layer| Unit::Layer(layer, entity(n)));
        (0..200).flat_map(of).collect()
    }

    fn shares(workers: &[Worker]) -> BTreeMap<Unit, String> {
        let of = |unit: Unit| Some((unit.clone(), owner(workers, &unit)?.to_owned()));
        units().into_iter().filter_map(of).collect()
    }

    #[test]
    fn each_has_about_the_same_share_whatever_the_order_in_which_they_are_listed() {
        let mut workers = ["a", "b", "c"].map(|id| worker(id, &Role::ALL));
        let before = shares(&workers);
        assert_eq!(before.len(), 600);
        for worker in &workers {
            let share = before.values().filter(|owner| **owner == worker.id).count();
            assert!((140..=260).contains(&share), "{} has {share} of 600", worker.id);
        }
        workers.reverse();
        assert_eq!(shares(&workers), before);
    }

    #[test]
    fn where_one_comes_or_goes_only_its_own_share_moves() {
        let workers = ["a", "b", "c"].map(|id| worker(id, &Role::ALL));
        let (with, without) = (shares(&workers), shares(&workers[..2]));
        for (unit, owner) in &without {
            let now = &with[unit];
            assert!(now == owner || now == "c", "{unit:?} went from {owner} to {now}");
        }
    }

    #[test]
    fn the_heir_of_each_piece_is_who_does_it_when_its_owner_is_gone() {
        let workers = ["a", "b", "c"].map(|id| worker(id, &Role::ALL));
        for unit in units() {
            let first = owner(&workers, &unit).unwrap();
            let others: Vec<Worker> = workers.iter().filter(|w| w.id != first).cloned().collect();
            assert_eq!(heir(&workers, &unit).as_deref(), owner(&others, &unit));
        }
        let alone = [worker("a", &Role::ALL)];
        assert_eq!(heir(&alone, &units()[0]), None);
    }

    #[test]
    fn work_is_for_those_with_its_role_and_for_nobody_where_there_is_none() {
        let workers =
            [worker("a", &[Role::Raw, Role::Bronze]), worker("b", &[Role::Raw, Role::Connect])];
        let shares = shares(&workers);
        assert!(shares.keys().all(|unit| !matches!(unit, Unit::Layer(Layer::Silver, _))));
        assert!(shares.iter().any(|(_, owner)| owner == "b"));
        for (unit, owner) in shares {
            assert!(!matches!(unit, Unit::Layer(Layer::Bronze, _)) || owner == "a");
        }
        let triggers = Unit::Triggers("shop".parse().unwrap());
        assert_eq!(owner(&workers, &triggers), Some("b"));
        assert!(owner(&workers, &Unit::House).is_some());
    }

    #[test]
    fn a_command_does_only_what_nobody_does_who_stays_unless_it_claims_it() {
        let unit = units().swap_remove(0);
        let mut command = worker("zz", &Role::ALL);
        command.stays = false;
        assert_eq!(owner(std::slice::from_ref(&command), &unit), Some("zz"));
        for stays in ["a", "b", "c"].map(|id| worker(id, &Role::ALL)) {
            let both = [stays, command.clone()];
            assert_ne!(owner(&both, &unit), Some("zz"));
        }
        command.roles.clear();
        command.claims.insert(unit.lease());
        assert_eq!(owner(&[worker("a", &Role::ALL), command], &unit), Some("zz"));
    }
}
