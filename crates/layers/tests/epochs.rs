//! A topic that was lost and began anew: nothing of its new epoch is applied before the operator has
//! accepted it, and then all of the old one stays accounted for.

use alluvium_layers::{epoch, verify};
use alluvium_model::{Epoch, Layer, Stage, StageError};

use crate::platform::{EPOCH, Platform, Topic, apply, people, person};
use crate::rebuild::{assert_equal, filled, rebuilt, verified};

const NEXT: Epoch = Epoch(EPOCH.0 + 1);

/// The topic as it began anew after its loss.
fn anew(platform: &Platform) -> Topic {
    let mut topic = Topic::of(platform);
    topic.epoch = NEXT;
    topic.mapped(&[&person(70, "Ann", "glad"), &person(12, "Bob", "late")]);
    topic.mapped(&[&person(80, "Ann", "calm")]);
    topic
}

/// A platform on which bronze and silver have all of the first epoch, raw what it has up to `raw`.
async fn lost(raw: u64) -> Platform {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.raw(1), &topic.delivery(0, raw)).await;
    apply(&mut platform.bronze(), &topic.all()).await;
    apply(&mut platform.silver(), &topic.all()).await;
    platform
}

async fn apply_all(platform: &Platform, topic: &Topic) {
    apply(&mut platform.raw(1), &topic.all()).await;
    apply(&mut platform.bronze(), &topic.delivery(0, 1)).await;
    apply(&mut platform.bronze(), &topic.delivery(1, 2)).await;
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    apply(&mut platform.silver(), &topic.delivery(1, 2)).await;
}

/// What does not hold, and the details of what holds of former epochs.
async fn checked(platform: &Platform) -> (Vec<verify::Check>, Vec<String>) {
    let found = verify::verify(&platform.lake, &platform.entity, |_, _| {}).await.unwrap();
    let former = found.checks.iter().filter(|check| check.check.starts_with("former"));
    let former = former.map(|check| check.detail.clone()).collect();
    (found.checks.into_iter().filter(|check| !check.holds).collect(), former)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_is_applied_once_it_is_accepted_and_sums_go_on() {
    let platform = lost(5).await;
    let topic = anew(&platform);
    for stage in
        [&mut platform.raw(1) as &mut dyn Stage, &mut platform.bronze(), &mut platform.silver()]
    {
        let error = stage.apply(&topic.all()).await.unwrap_err();
        let StageError::UnexpectedEpoch { expected, found } = error else { panic!("{error}") };
        assert_eq!((expected, found), (EPOCH, NEXT));
    }
    let begun = epoch::accept(&platform.lake, &platform.id(), NEXT).await.unwrap();
    assert_eq!((begun.len(), begun[0].step.end, begun[0].beyond.len()), (1, 5, 0));
    let again = epoch::accept(&platform.lake, &platform.id(), NEXT).await.unwrap();
    assert_eq!(again.len(), 0, "it is known now");
    assert_eq!(checked(&platform).await.0, [], "before anything of it came");

    apply_all(&platform, &topic).await;
    let (wrong, former) = checked(&platform).await;
    assert_eq!((wrong, former.len()), (vec![], 2));
    assert_equal(&verified(&platform).await);
    let rows = platform.silver_rows().await;
    rebuilt(&platform).await;
    assert_equal(&verified(&platform).await);
    assert_eq!(checked(&platform).await.0, []);
    assert_eq!(platform.silver_rows().await.len(), rows.len());

    let older = epoch::accept(&platform.lake, &platform.id(), EPOCH).await.unwrap_err();
    assert!(matches!(older, StageError::Mismatch(_)), "{older}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tables_have_beyond_raw_is_counted_and_no_rebuild_vouches_for_it() {
    let platform = lost(4).await;
    let begun = epoch::accept(&platform.lake, &platform.id(), NEXT).await.unwrap();
    let beyond: Vec<_> = begun[0].beyond.iter().map(|b| (b.layer, b.offset, b.records)).collect();
    assert_eq!(beyond, [(Layer::Bronze, 5, 3), (Layer::Silver, 5, 3)]);
    assert_eq!(checked(&platform).await.0, []);
    apply_all(&platform, &anew(&platform)).await;
    let (wrong, former) = checked(&platform).await;
    assert_eq!(wrong, []);
    assert!(former.iter().all(|detail| detail.contains("3 that were lost")), "{former:?}");
    let found = verified(&platform).await;
    assert!(found.checks.iter().any(|check| !check.holds), "raw cannot prove them");
    rebuilt(&platform).await;
    assert_equal(&verified(&platform).await);
    assert_eq!(checked(&platform).await.0, [], "the table has no more than raw now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_behind_does_not_pass_over_the_rest_of_the_old_epoch() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.raw(1), &topic.all()).await;
    apply(&mut platform.silver(), &topic.delivery(0, 3)).await;
    epoch::accept(&platform.lake, &platform.id(), NEXT).await.unwrap();
    let next = anew(&platform);
    let error = platform.silver().apply(&next.all()).await.unwrap_err();
    assert!(matches!(error, StageError::UnexpectedEpoch { .. }), "{error}");
    apply(&mut platform.silver(), &topic.delivery(3, 5)).await;
    apply(&mut platform.silver(), &next.all()).await;
    apply(&mut platform.raw(1), &next.all()).await;
    assert_eq!(checked(&platform).await.0, []);
    assert_equal(&verified(&platform).await);
}
