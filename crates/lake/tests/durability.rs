//! Puts: durable, whole, and create-only where asked for.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use alluvium_lake::store::Created;
use alluvium_lake::{Lake, LakeError};
use alluvium_model::clock::ManualClock;
use alluvium_model::{Clock, SystemClock};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::lake_in;

#[tokio::test]
async fn an_object_is_created_once_and_then_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let path = Path::from("a/b/c");
    assert_eq!(lake.create(&path, "first".into()).await.unwrap(), Created::Written);
    assert_eq!(lake.create(&path, "second".into()).await.unwrap(), Created::AlreadyThere);
    assert_eq!(lake.get(&path).await.unwrap().unwrap(), "first");
    lake.put(&path, "third".into()).await.unwrap();
    assert_eq!(lake_in(folder.path()).get(&path).await.unwrap().unwrap(), "third");
    assert_eq!(lake.get(&Path::from("a/b/d")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_an_object_one_wins_and_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let path = Path::from("contested");
    let tries = (0..16u8).map(|n| {
        let (lake, path) = (lake.clone(), path.clone());
        async move { lake.create(&path, PutPayload::from(vec![n; 10_000])).await.unwrap() }
    });
    let outcomes = futures::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|o| **o == Created::Written).count(), 1);
    let bytes = lake.get(&path).await.unwrap().unwrap();
    assert!(bytes.len() == 10_000 && bytes.iter().all(|b| *b == bytes[0]));
}

#[tokio::test]
async fn what_is_put_unsynced_can_be_synced_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let paths = [Path::from("t/x=true/1"), Path::from("t/x=false/2"), Path::from("t/3")];
    for path in &paths {
        lake.put_unsynced(path, "data".into()).await.unwrap();
    }
    lake.sync_all(&paths).await.unwrap();
    assert_eq!(lake.list(&Path::from("t")).await.unwrap().len(), 3);
    assert!(lake.put_unsynced(&paths[0], "other".into()).await.is_err());
    let missing = lake.sync_all(&[Path::from("t/4")]).await.unwrap_err();
    assert!(matches!(&missing, LakeError::Unavailable { .. }), "{missing:?}");
    assert!(missing.detail().contains("t/4"), "{missing:?}");
}

#[tokio::test]
async fn an_upload_in_parts_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let path = Path::from("parts");
    let mut upload = lake.store().put_multipart(&path).await.unwrap();
    let (first, second) = (upload.put_part("ab".into()), upload.put_part("cd".into()));
    futures::future::try_join(second, first).await.unwrap();
    assert_eq!(lake.get(&path).await.unwrap(), None);
    upload.complete().await.unwrap();
    assert_eq!(lake.get(&path).await.unwrap().unwrap(), "abcd");

    let mut broken = lake.store().put_multipart(&Path::from("broken")).await.unwrap();
    broken.put_part("x".into()).await.unwrap();
    drop(broken);
    assert_eq!(fs::read_dir(folder.path().join(".staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn leftovers_of_broken_writes_are_invisible_and_collected_after_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    lake.put(&Path::from("kept"), "x".into()).await.unwrap();
    let leftover = folder.path().join(".staging/0123abcd#0");
    fs::write(&leftover, "half").unwrap();
    let listed: Vec<_> = lake.store().list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(lake.store().list_with_delimiter(None).await.unwrap().common_prefixes.is_empty());

    lake_in(folder.path());
    assert!(leftover.exists(), "it may be another process's, at work");
    let clock = ManualClock::at(SystemClock.now());
    clock.advance(Duration::from_secs(25 * 60 * 60));
    Lake::local(folder.path(), Arc::new(clock)).unwrap();
    assert!(!leftover.exists());
    assert!(folder.path().join("kept").exists());
}

#[tokio::test]
async fn deleting_and_renaming_work_as_on_any_store() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let (a, b) = (Path::from("x/a"), Path::from("y/z/b"));
    lake.put(&a, "1".into()).await.unwrap();
    lake.store().rename(&a, &b).await.unwrap();
    assert_eq!(lake.get(&a).await.unwrap(), None);
    assert_eq!(lake.get(&b).await.unwrap().unwrap(), "1");
    lake.delete(&b).await.unwrap();
    lake.delete(&b).await.unwrap();
    assert_eq!(lake.store().list(None).count().await, 0);
}
