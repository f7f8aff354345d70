//! Leases.

use std::time::Duration;

use alluvium_model::{FencingToken, Layer};

use super::Given;
use super::given::orders;
use crate::LeaseName;

/// Long enough that a slow machine does not let it run out.
const TTL: Duration = Duration::from_secs(1200);

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

pub(super) async fn many_are_granted_and_given_back_at_once(given: Given) {
    let ledger = &*given.ledger;
    let names: Vec<_> = Layer::ALL.map(|layer| LeaseName::layer(layer, &orders())).into();
    let theirs = ledger.acquire_lease(&names[1], "b", TTL).await.unwrap().unwrap();
    let ours = ledger.acquire_leases(&names, "a", TTL).await.unwrap();
    let sorted = |leases: &[(LeaseName, FencingToken)]| {
        let mut names: Vec<_> = leases.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    let mut free = vec![names[0].clone(), names[2].clone()];
    free.sort();
    assert_eq!(sorted(&ours), free);
    assert!(ledger.acquire_leases(&[], "a", TTL).await.unwrap().is_empty());
    let mut given_back = ours.clone();
    given_back.push((names[1].clone(), FencingToken(theirs.0 - 1)));
    ledger.release_leases(&given_back).await.unwrap();
    let next = ledger.acquire_leases(&names, "c", TTL).await.unwrap();
    assert_eq!(sorted(&next), free, "what another holds is not given back");
    for (name, token) in next {
        let before = ours.iter().find(|(ours, _)| *ours == name).unwrap().1;
        assert!(token > before);
    }
}
