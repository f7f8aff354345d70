//! Leases.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_model::{FencingToken, Layer};

use super::Given;
use super::given::orders;
use crate::LeaseName;

const TTL: Duration = Duration::from_secs(2);

pub(super) async fn one_holds_a_lease_and_each_grant_has_a_higher_token(given: Given) {
    let ledger = &*given.ledger;
    let name = LeaseName::poll(&orders());
    let first = ledger.acquire_lease(&name, "a", TTL).await.unwrap().unwrap();
    assert_eq!(ledger.acquire_lease(&name, "b", TTL).await.unwrap(), None);
    let other = LeaseName::layer(Layer::Silver, &orders());
    assert!(ledger.acquire_lease(&other, "b", TTL).await.unwrap().is_some());

    let anew = ledger.acquire_lease(&name, "a", TTL).await.unwrap().unwrap();
    assert!(anew > first, "a holder's next life is another owner");
    assert!(!ledger.renew_lease(&name, first, TTL).await.unwrap());

    assert!(!ledger.release_lease(&name, first).await.unwrap());
    assert!(ledger.release_lease(&name, anew).await.unwrap());
    assert!(!ledger.release_lease(&name, anew).await.unwrap());
    let next = ledger.acquire_lease(&name, "b", TTL).await.unwrap().unwrap();
    assert!(next > anew);
    // Tokens are above those that a lost ledger granted before.
    assert!(first > FencingToken(1_000_000_000_000), "{first:?}");
    let leases = ledger.leases().await.unwrap();
    assert_eq!(leases.len(), 2);
    assert_eq!((leases[0].holder.as_str(), leases[0].token), ("b", next));
}

pub(super) async fn a_lease_that_ran_out_is_not_renewed(given: Given) {
    let ledger = &*given.ledger;
    let name = LeaseName::poll(&orders());
    let first = ledger.acquire_lease(&name, "a", TTL).await.unwrap().unwrap();
    given.time.pass(TTL / 2).await;
    assert!(ledger.renew_lease(&name, first, TTL).await.unwrap());
    given.time.pass(TTL * 3 / 4).await;
    assert_eq!(ledger.acquire_lease(&name, "b", TTL).await.unwrap(), None, "it was renewed");
    given.time.pass(TTL / 2).await;
    assert!(!ledger.renew_lease(&name, first, TTL).await.unwrap());
    let second = ledger.acquire_lease(&name, "b", TTL).await.unwrap().unwrap();
    assert!(second > first);
    assert!(!ledger.renew_lease(&name, first, TTL).await.unwrap());
    assert!(ledger.renew_lease(&name, second, TTL).await.unwrap());
}

pub(super) async fn of_many_at_once_one_gets_the_lease(given: Given) {
    let ledger = &*given.ledger;
    let name = LeaseName::poll(&orders());
    let holders: Vec<String> = (0..8).map(|n| format!("worker-{n}")).collect();
    let tries = holders.iter().map(|holder| ledger.acquire_lease(&name, holder, TTL));
    let granted = futures::future::join_all(tries).await;
    let tokens: BTreeSet<_> = granted.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
}

pub(super) async fn many_are_granted_and_given_back_at_once(given: Given) {
    let ledger = &*given.ledger;
    let names: Vec<_> = Layer::ALL.map(|layer| LeaseName::layer(layer, &orders())).into();
    let theirs = ledger.acquire_lease(&names[1], "b", TTL).await.unwrap().unwrap();
    let ours = ledger.acquire_leases(&names, "a", TTL).await.unwrap();
    let mut granted: Vec<_> = ours.iter().map(|(name, _)| name.clone()).collect();
    granted.sort();
    let mut free = vec![names[0].clone(), names[2].clone()];
    free.sort();
    assert_eq!(granted, free);
    assert!(ledger.acquire_leases(&[], "a", TTL).await.unwrap().is_empty());
    let mut given_back = ours.clone();
    given_back.push((names[1].clone(), FencingToken(theirs.0 - 1)));
    ledger.release_leases(&given_back).await.unwrap();
    let next = ledger.acquire_leases(&names, "c", TTL).await.unwrap();
    let mut granted: Vec<_> = next.iter().map(|(name, _)| name.clone()).collect();
    granted.sort();
    assert_eq!(granted, free, "what another holds is not given back");
    for (name, token) in next {
        let before = ours.iter().find(|(ours, _)| *ours == name).unwrap().1;
        assert!(token > before);
    }
}
