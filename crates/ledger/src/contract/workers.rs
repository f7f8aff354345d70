//! Workers that share the work.

use std::slice::from_ref;
use std::time::Duration;

use alluvium_model::{EntitySpec, Epoch, Layer, Position, Role, SystemSpec};
use serde_json::json;

use super::Given;
use super::given::{at, customers, orders};
use crate::{LeaseName, NewRun, RunStatus, Worker};

const TTL: Duration = Duration::from_secs(2);

fn worker(id: &str, roles: &[Role]) -> Worker {
    Worker {
        id: id.to_owned(),
        node: format!("{id}'s folder"),
        roles: roles.iter().copied().collect(),
        stays: true,
        ..Worker::default()
    }
}

pub(super) async fn workers_see_each_other_until_they_are_gone(given: Given) {
    let ledger = &*given.ledger;
    let (a, mut b) = (worker("a", &Role::ALL), worker("b", &[Role::Raw]));
    assert_eq!(ledger.beat(&a, &[], TTL).await.unwrap().workers, from_ref(&a));
    assert_eq!(ledger.beat(&b, &[], TTL).await.unwrap().workers, [a.clone(), b.clone()]);
    given.time.pass(TTL / 2).await;
    b.claims.insert(LeaseName::poll(&orders()));
    b.revision = 7;
    b.keeps.insert(LeaseName::layer(Layer::Silver, &orders()));
    b.ready.insert(LeaseName::layer(Layer::Raw, &customers()));
    b.unfit.insert(LeaseName::layer(Layer::Silver, &customers()));
    assert_eq!(ledger.beat(&b, &[], TTL).await.unwrap().workers, [a.clone(), b.clone()]);
    given.time.pass(TTL * 3 / 4).await;
    let left = ledger.beat(&b, &[], TTL).await.unwrap().workers;
    assert_eq!(left, [b.clone()], "the other is dead");
    assert_eq!(ledger.beat(&a, &[], TTL).await.unwrap().workers.len(), 2);
    ledger.sign_off("b").await.unwrap();
    ledger.sign_off("b").await.unwrap();
    assert_eq!(ledger.beat(&a, &[], TTL).await.unwrap().workers, [a]);
}

pub(super) async fn a_beat_prolongs_what_is_held_and_tells_what_was_lost(given: Given) {
    let ledger = &*given.ledger;
    let a = worker("a", &Role::ALL);
    let names: Vec<_> = Layer::ALL.map(|layer| LeaseName::layer(layer, &orders())).into();
    let held = ledger.acquire_leases(&names, "a", TTL).await.unwrap();
    given.time.pass(TTL / 2).await;
    assert_eq!(ledger.beat(&a, &held, TTL).await.unwrap().lost, []);
    given.time.pass(TTL * 3 / 4).await;
    assert_eq!(ledger.acquire_leases(&names, "b", TTL).await.unwrap(), [], "they were prolonged");
    ledger.release_leases(&held[..1]).await.unwrap();
    let (name, _) = &held[0];
    ledger.acquire_lease(name, "b", TTL).await.unwrap().unwrap();
    assert_eq!(ledger.beat(&a, &held, TTL).await.unwrap().lost, from_ref(name));
    given.time.pass(TTL * 2).await;
    let mut lost = ledger.beat(&a, &held, TTL).await.unwrap().lost;
    lost.sort();
    let mut all = names.clone();
    all.sort();
    assert_eq!(lost, all, "what has run out is not prolonged");
}

pub(super) async fn who_waits_is_heard_and_the_furthest_counts(given: Given) {
    let ledger = &*given.ledger;
    let at = |epoch, offset| Position { epoch: Epoch(epoch), offset, index: 0 };
    for (entity, position) in [
        (orders(), at(7, 30)),
        (orders(), at(7, 20)),
        (customers(), at(7, 90)),
        (customers(), at(8, 5)),
        (customers(), at(7, 99)),
    ] {
        ledger.want(&entity, position).await.unwrap();
    }
    let mut wanted = ledger.beat(&worker("a", &[]), &[], TTL).await.unwrap().wanted;
    wanted.sort_by_key(|(_, position)| *position);
    assert_eq!(wanted, [(orders(), at(7, 30)), (customers(), at(8, 5))]);
}

pub(super) async fn a_change_of_the_metadata_is_a_new_revision(given: Given) {
    let ledger = &*given.ledger;
    let a = worker("a", &[]);
    let revision = async || ledger.beat(&a, &[], TTL).await.unwrap().revision;
    let first = revision().await;
    let system: SystemSpec =
        serde_json::from_value(json!({"name": "shop", "type": "push", "connection": {}})).unwrap();
    let spec = json!({"system": "shop", "name": "orders", "keys": ["id"], "load": "delta"});
    let mut spec: EntitySpec = serde_json::from_value(spec).unwrap();
    ledger.store_metadata(from_ref(&system), from_ref(&spec), at(1)).await.unwrap();
    let second = revision().await;
    assert!(second > first);
    ledger.store_metadata(from_ref(&system), from_ref(&spec), at(2)).await.unwrap();
    assert_eq!(revision().await, second, "nothing has changed");
    spec.description = "what was ordered".to_owned();
    ledger.store_metadata(&[system], &[spec], at(3)).await.unwrap();
    assert!(revision().await > second);
}

pub(super) async fn runs_of_workers_that_are_alive_are_not_interrupted(given: Given) {
    let ledger = &*given.ledger;
    let open = async |worker: Option<&str>| {
        let run = NewRun {
            system: "shop".parse().unwrap(),
            trigger: "manual".to_owned(),
            started_at: at(1),
            traceparent: None,
            worker: worker.map(str::to_owned),
        };
        ledger.open_run(run).await.unwrap()
    };
    ledger.beat(&worker("a", &[]), &[], TTL).await.unwrap();
    let (ours, dead, nobodys) = (open(Some("a")).await, open(Some("b")).await, open(None).await);
    assert_eq!(ledger.interrupt_open_runs(at(9)).await.unwrap(), 2);
    let status = async |run| ledger.run(run).await.unwrap().unwrap().status;
    assert_eq!(status(&ours).await, RunStatus::Running);
    assert_eq!(status(&dead).await, RunStatus::Interrupted);
    assert_eq!(status(&nobodys).await, RunStatus::Interrupted);
}
