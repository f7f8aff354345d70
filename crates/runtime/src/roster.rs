//! Who is to do what, as every worker computes it by itself from the same list of workers.
//!
//! By rendezvous hashing: of all who could do a piece of work, the one does it whose place and the
//! work's name together hash highest. So nobody has to be asked, each has about the same share, and
//! where a worker comes or goes only its own share moves. A place is a data folder: a worker that is
//! started again gets the work for which its folder has a key index.
//!
//! Silver moves between two who live only once the other has followed the table, so that no layer
//! stands still while an index is made.

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

    /// Whether it takes more to go on with it than its lease.
    pub(crate) fn needs_index(&self) -> bool {
        matches!(self, Self::Layer(Layer::Silver, _))
    }

    fn is_for(&self, worker: &Worker) -> bool {
        match self {
            Self::Layer(layer, _) => worker.roles.contains(&Role::from(*layer)),
            Self::Triggers(_) => worker.roles.contains(&Role::Connect),
            Self::House => !worker.roles.is_empty(),
        }
    }
}

/// The worker that is to do it, if there is one who can. Whoever claims it goes before all others.
/// Else the best of those who can, but for what needs an index: who has it keeps it until the best
/// one is ready, and where nobody has it, those who are ready go before the others.
pub(crate) fn owner<'w>(workers: &'w [Worker], unit: &Unit) -> Option<&'w str> {
    let lease = unit.lease();
    let claims = by_weight(workers, &lease, |worker| worker.claims.contains(&lease));
    let able = able(workers, unit);
    let best = *claims.first().or(able.first())?;
    let is_ready = |worker: &Worker| worker.ready.contains(&lease);
    if !claims.is_empty() || !unit.needs_index() || is_ready(best) {
        return Some(&best.id);
    }
    let has = |which: &dyn Fn(&Worker) -> bool| able.iter().copied().find(|worker| which(worker));
    let found = has(&|worker| worker.keeps.contains(&lease)).or_else(|| has(&is_ready));
    Some(&found.unwrap_or(best).id)
}

/// Those who are to be ready to do it: who does it where the present one is gone, and who is to
/// have it instead of the present one.
pub(crate) fn heirs<'w>(workers: &'w [Worker], unit: &Unit) -> Vec<&'w str> {
    let present = owner(workers, unit);
    let able = able(workers, unit);
    let is_best = able.first().map(|best| best.id.as_str()) == present;
    let others = able.iter().map(|worker| worker.id.as_str()).filter(|id| Some(*id) != present);
    // Who was ready for the day on which the present one is gone stays so until the best one is.
    others.take(if is_best { 1 } else { 2 }).collect()
}

/// Whether somebody but this one can do it, and did not find that it cannot.
pub(crate) fn another_can(workers: &[Worker], unit: &Unit, me: &str) -> bool {
    let lease = unit.lease();
    let can = |worker: &Worker| {
        worker.stays && unit.is_for(worker) && !worker.unfit.contains(&lease) && worker.id != me
    };
    workers.iter().any(can)
}

/// Who could do it without claiming it, the best first: those who stay go before those who do one
/// thing and end, and where nobody is fit, all are tried again.
fn able<'w>(workers: &'w [Worker], unit: &Unit) -> Vec<&'w Worker> {
    let lease = unit.lease();
    let fit = |worker: &Worker| !worker.unfit.contains(&lease);
    let which: [&dyn Fn(&Worker) -> bool; 3] = [
        &|worker| worker.stays && unit.is_for(worker) && fit(worker),
        &|worker| worker.stays && unit.is_for(worker),
        &|worker| unit.is_for(worker),
    ];
    let mut found = which.iter().map(|which| by_weight(workers, &lease, which));
    found.find(|found| !found.is_empty()).unwrap_or_default()
}

/// Two in places of one name, as of a folder that was copied, share by what they are called.
fn by_weight<'w>(
    workers: &'w [Worker],
    lease: &LeaseName,
    which: impl Fn(&Worker) -> bool,
) -> Vec<&'w Worker> {
    let mut found: Vec<&Worker> = workers.iter().filter(|worker| which(worker)).collect();
    let rank = |worker: &Worker| (weight(&worker.node, lease), weight(&worker.id, lease));
    found.sort_by_cached_key(|worker| std::cmp::Reverse(rank(worker)));
    found
}

fn weight(name: &str, lease: &LeaseName) -> u64 {
    xxh3_64(format!("{name}\n{lease}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn worker(id: &str, roles: &[Role]) -> Worker {
        let (id, node) = (format!("{id}, one life of it"), id.to_owned());
        let roles = roles.iter().copied().collect();
        Worker { id, node, roles, stays: true, ..Worker::default() }
    }

    fn workers<const N: usize>(nodes: [&str; N]) -> [Worker; N] {
        nodes.map(|node| worker(node, &Role::ALL))
    }

    fn units() -> Vec<Unit> {
        let entity = |n: usize| format!("shop.table{n}").parse::<EntityId>().unwrap();
        let of = |n| Layer::ALL.map(|layer| Unit::Layer(layer, entity(n)));
        (0..200).flat_map(of).collect()
    }

    fn silver() -> Unit {
        units().into_iter().find(Unit::needs_index).unwrap()
    }

    /// The place that is to do it.
    fn place<'w>(workers: &'w [Worker], unit: &Unit) -> Option<&'w str> {
        let id = owner(workers, unit)?;
        workers.iter().find(|worker| worker.id == id).map(|worker| worker.node.as_str())
    }

    fn shares(workers: &[Worker]) -> BTreeMap<Unit, String> {
        let of = |unit: Unit| Some((unit.clone(), place(workers, &unit)?.to_owned()));
        units().into_iter().filter_map(of).collect()
    }

    /// Three workers, the best for the unit first.
    fn ranked(unit: &Unit) -> [Worker; 3] {
        let mut ranked = workers(["a", "b", "c"]);
        ranked.sort_by_key(|worker| std::cmp::Reverse(weight(&worker.node, &unit.lease())));
        ranked
    }

    #[test]
    fn each_has_about_the_same_share_whatever_the_order_in_which_they_are_listed() {
        let mut workers = workers(["a", "b", "c"]);
        let before = shares(&workers);
        assert_eq!(before.len(), 600);
        for worker in &workers {
            let share = before.values().filter(|owner| **owner == worker.node).count();
            assert!((140..=260).contains(&share), "{} has {share} of 600", worker.node);
        }
        workers.reverse();
        assert_eq!(shares(&workers), before);
    }

    #[test]
    fn a_place_has_the_same_share_in_each_life_and_two_of_one_name_share_it() {
        let mut workers = workers(["a", "b", "c"]);
        let before = shares(&workers);
        workers.iter_mut().for_each(|worker| worker.id.push_str(", another life"));
        assert_eq!(shares(&workers), before);
        workers.iter_mut().for_each(|worker| worker.node = "copied".to_owned());
        for worker in &workers {
            let is_its = |unit: &Unit| owner(&workers, unit) == Some(worker.id.as_str());
            let share = units().iter().filter(|unit| is_its(unit)).count();
            assert!((140..=260).contains(&share), "{} has {share} of 600", worker.id);
        }
    }

    #[test]
    fn where_one_comes_or_goes_only_its_own_share_moves() {
        let workers = workers(["a", "b", "c"]);
        let (with, without) = (shares(&workers), shares(&workers[..2]));
        for (unit, owner) in &without {
            let now = &with[unit];
            assert!(now == owner || now == "c", "{unit:?} went from {owner} to {now}");
        }
    }

    #[test]
    fn silver_stays_where_it_is_until_who_is_to_have_it_is_ready() {
        let unit = silver();
        let mut workers = ranked(&unit);
        let ids = workers.clone().map(|worker| worker.id);
        assert_eq!(owner(&workers, &unit), Some(&*ids[0]), "nobody has it");
        workers[2].keeps.insert(unit.lease());
        workers[1].ready.insert(unit.lease());
        assert_eq!(owner(&workers, &unit), Some(&*ids[2]), "the best one is not ready");
        assert_eq!(heirs(&workers, &unit), [&*ids[0], &*ids[1]], "both get ready, or stay so");
        workers[0].ready.insert(unit.lease());
        assert_eq!(owner(&workers, &unit), Some(&*ids[0]));
        workers[0].ready.clear();
        workers[0].keeps.insert(unit.lease());
        workers[2].keeps.clear();
        assert_eq!(owner(&workers, &unit), Some(&*ids[0]));
        assert_eq!(heirs(&workers, &unit), [&*ids[1]]);
    }

    #[test]
    fn what_the_dead_had_goes_to_who_is_ready_and_at_once_where_nobody_is() {
        let unit = silver();
        let mut workers = ranked(&unit);
        let ids = workers.clone().map(|worker| worker.id);
        workers[2].ready.insert(unit.lease());
        assert_eq!(owner(&workers, &unit), Some(&*ids[2]));
        assert_eq!(owner(&workers[..2], &unit), Some(&*ids[0]));
    }

    #[test]
    fn what_needs_no_index_moves_at_once() {
        let unit = units().into_iter().find(|unit| !unit.needs_index()).unwrap();
        let mut workers = ranked(&unit);
        workers[2].keeps.insert(unit.lease());
        workers[1].ready.insert(unit.lease());
        assert_eq!(owner(&workers, &unit), Some(&*workers[0].id));
    }

    #[test]
    fn the_heir_of_each_piece_is_who_does_it_when_its_owner_is_gone() {
        let workers = workers(["a", "b", "c"]);
        for unit in units() {
            let first = owner(&workers, &unit).unwrap();
            let others: Vec<Worker> = workers.iter().filter(|w| w.id != first).cloned().collect();
            assert_eq!(heirs(&workers, &unit).first().copied(), owner(&others, &unit));
        }
        assert!(heirs(&workers[..1], &units()[0]).is_empty());
    }

    #[test]
    fn who_could_not_do_it_is_left_out_while_another_can() {
        for unit in [silver(), Unit::House] {
            let mut workers = ranked(&unit);
            let ids = workers.clone().map(|worker| worker.id);
            workers[0].unfit.insert(unit.lease());
            assert_eq!(owner(&workers, &unit), Some(&*ids[1]));
            assert!(another_can(&workers, &unit, &ids[0]));
            workers[1].unfit.insert(unit.lease());
            workers[2].roles.clear();
            assert!(!another_can(&workers, &unit, &ids[0]));
            assert_eq!(owner(&workers, &unit), Some(&*ids[0]), "somebody has to");
        }
    }

    #[test]
    fn work_is_for_those_with_its_role_and_for_nobody_where_there_is_none() {
        let workers =
            [worker("a", &[Role::Raw, Role::Bronze]), worker("b", &[Role::Raw, Role::Connect])];
        let shares = shares(&workers);
        assert!(shares.keys().all(|unit| !unit.needs_index()));
        assert!(shares.iter().any(|(_, owner)| owner == "b"));
        for (unit, owner) in shares {
            assert!(!matches!(unit, Unit::Layer(Layer::Bronze, _)) || owner == "a");
        }
        let triggers = Unit::Triggers("shop".parse().unwrap());
        assert_eq!(place(&workers, &triggers), Some("b"));
        assert!(owner(&workers, &Unit::House).is_some());
    }

    #[test]
    fn a_command_does_only_what_nobody_does_who_stays_unless_it_claims_it() {
        let unit = silver();
        let mut command = worker("zz", &Role::ALL);
        command.stays = false;
        assert_eq!(place(std::slice::from_ref(&command), &unit), Some("zz"));
        for mut stays in workers(["a", "b", "c"]) {
            stays.unfit.insert(unit.lease());
            let both = [stays, command.clone()];
            assert_ne!(place(&both, &unit), Some("zz"));
        }
        command.roles.clear();
        command.claims.insert(unit.lease());
        let mut a = worker("a", &Role::ALL);
        a.keeps.insert(unit.lease());
        assert_eq!(place(&[a.clone(), command.clone()], &unit), Some("zz"));
        assert_eq!(heirs(&[a.clone(), command], &unit), [&*a.id], "it gets it back");
    }
}
