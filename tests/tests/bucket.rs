//! A lake in a bucket: written, killed, asked, proved, kept, and read by others.

use std::path::Path;
use std::process::Command;

use alluvium_testkit::{Fault, S3Server};
use alluvium_tests::platform::MAP;
use alluvium_tests::workload::{COLUMNS, metadata};
use alluvium_tests::{Moments, TestPlatform, Workload};
use serde_json::Value;

use crate::crash::{BROKEN_OFF, runs};

/// What nothing may show.
const CANARIES: [&str; 3] = ["CANARYKEYID", "canary-of-the-bucket", "canary/of+the=session"];

/// The settings without who asks.
fn place(endpoint: &str, prefix: &str) -> String {
    format!(
        "[http]\nenabled = false\n[lake]\nurl = \"s3://lake/{prefix}\"\n[lake.s3]\n\
         endpoint = \"{endpoint}\"\nallow_http = true\nretry_time = \"10s\"\n"
    )
}

pub(crate) fn settings(endpoint: &str, prefix: &str) -> String {
    place(endpoint, prefix)
        + "access_key_id = \"${env:LAKE_KEY}\"\nsecret_access_key = \"${file:secret}\"\n"
}

/// The shop, its lake in the bucket.
pub(crate) fn shop_in(endpoint: &str, prefix: &str) -> TestPlatform {
    let (systems, entities) = metadata();
    let mut platform = TestPlatform::new(&settings(endpoint, prefix), &systems, &entities);
    platform.set_variable("LAKE_KEY", CANARIES[0]);
    platform.write("secret", &format!("{}\n", CANARIES[1]));
    platform
}

fn silver(platform: &TestPlatform) -> String {
    let sql = format!(
        "SELECT {COLUMNS}, _valid_from, _valid_to, _is_current, _op, _seq FROM \
         silver.shop.customers ORDER BY id, _valid_from"
    );
    platform.run(&["query", &sql, "-o", "ndjson"]).ok().stdout
}

#[track_caller]
fn assert_quiet(said: &str) {
    for canary in CANARIES {
        assert!(!said.contains(canary), "{said}");
    }
}

#[test]
fn a_lake_in_a_bucket_is_killed_asked_proved_and_kept_as_one_in_a_folder() {
    let Some(server) = S3Server::start() else { return };
    let (folder, bucket) = (TestPlatform::shop(), shop_in(&server.endpoint(), "a/lake"));
    let mut workload = Workload::new(17);
    let lines = workload.inserts(3_000) + &workload.changes(3_000);
    let file = bucket.write("all.ndjson", &lines);
    folder.publish(&file).ok();

    let args = ["publish", "shop.customers", file.to_str().unwrap(), "--map", MAP, "--wait", "-q"];
    let (mut times, mut killed) = (1, 0);
    Moments::new(3, 20..320).kill_each(
        4,
        || bucket.spawn(&args),
        || {
            times += 1;
            assert_quiet(&std::fs::read_to_string(bucket.folder().join("stderr.log")).unwrap());
            let before = std::mem::replace(&mut killed, runs(&bucket, BROKEN_OFF));
            killed > before
        },
    );
    bucket.publish(&file).ok();
    assert!(!bucket.folder().join("data/lake").exists(), "the lake is elsewhere");
    let expected = silver(&folder);
    assert_eq!(expected.lines().count() as u64, workload.version_count());
    assert_eq!(silver(&bucket), expected);
    bucket.assert_sound();
    let proved = bucket.run(&["verify", "--rebuild", "-o", "ndjson"]).ok();
    assert!(proved.rows().iter().all(|row| row["holds"] == true), "{}", proved.stdout);

    let kept = bucket.run(&["maintain", "-o", "ndjson"]).ok();
    assert_eq!(kept.rows().len(), 2, "bronze and silver: {}", kept.stdout);
    assert_eq!(silver(&bucket), expected);
    let records = bucket.number("SELECT count(*) FROM raw.shop.customers");
    // Whose end was reached before the kill was published anew, and whole.
    let lines = lines.lines().count() as u64;
    assert!(records.is_multiple_of(lines) && records <= times * lines, "{records} of {lines}");
    bucket.run(&["rebuild", "silver", "shop.customers", "-q"]).ok();
    assert_eq!(silver(&bucket), expected);
    let first = bucket.rows(&["query", "SELECT 1 FROM silver.shop.customers", "--version", "0"]);
    assert_eq!(first.len(), 0, "the table as it was when it was made");
    let more = bucket.write("more.ndjson", &workload.changes(500));
    bucket.publish(&more).ok();
    bucket.assert_sound();
    others_see_the_same_rows(&server.endpoint(), &bucket, workload.version_count());
}

/// delta-rs and Polars. DuckDB's extension would fetch another one over the network.
fn others_see_the_same_rows(endpoint: &str, platform: &TestPlatform, versions: u64) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers");
    let Some(python) = crate::readers::python(&scripts) else { return };
    let ours = platform.run(&["query", "SELECT * FROM silver.shop.customers", "-o", "ndjson"]).ok();
    let ours = platform.write("ours.ndjson", &ours.stdout);
    let compared = Command::new(python)
        .arg(scripts.join("read_delta.py"))
        .args([
            "compare",
            "--engines",
            "polars,deltalake",
            "s3://lake/a/lake/silver/shop/customers",
        ])
        .arg(ours)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&compared.stdout);
    let told = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "{text}\n{told}");
    let outcome: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(outcome["same"], true, "{outcome}");
    for reader in ["polars", "deltalake", "alluvium"] {
        assert_eq!(outcome["rows"][reader], versions, "{reader}");
    }
}

#[test]
fn a_store_that_is_not_fit_or_does_not_let_us_in_is_told_at_the_start() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let platform = shop_in(&proxy.endpoint(), "b");
    let file = platform.write("all.ndjson", &Workload::new(1).inserts(5));
    proxy.script("PUT", "_probe", 2, Fault::DropConditions);
    let refused = platform.publish(&file).ended(2);
    assert_quiet(&refused.stderr);
    refused.told(&["If-None-Match", "MinIO"]);

    let body = format!(
        "<Error><Code>InvalidAccessKeyId</Code><Message>There is no such key.</Message>\
         <AWSAccessKeyId>{}</AWSAccessKeyId></Error>",
        CANARIES[0]
    );
    proxy.script("PUT", "", 1, Fault::Answer(403, body));
    let refused = platform.publish(&file).ended(2);
    assert_quiet(&refused.stderr);
    refused.told(&["InvalidAccessKeyId", "credentials"]);

    platform.publish(&file).ok();
    platform.assert_sound();
}

/// The shop, its lake in the bucket; `who` says in the settings who asks.
fn shop_asking(endpoint: &str, prefix: &str, who: &str) -> TestPlatform {
    let (systems, entities) = metadata();
    let platform = TestPlatform::new(&(place(endpoint, prefix) + who), &systems, &entities);
    platform.write("secret", &format!("{}\n", CANARIES[1]));
    platform.write("token", &format!("{}\n", CANARIES[2]));
    platform
}

/// By references of the settings: to a variable, to one that names a file, and to files.
fn by_the_settings(endpoint: &str) -> TestPlatform {
    let who = "region = \"eu-north-1\"\naccess_key_id = \"${env:LAKE_KEY}\"\n\
               secret_access_key = \"${file:secret}\"\nsession_token = \"${env:LAKE_TOKEN}\"\n";
    let mut platform = shop_asking(endpoint, "settings", who);
    platform.set_variable("LAKE_KEY", CANARIES[0]);
    platform.set_variable("LAKE_TOKEN_FILE", "token");
    platform
}

/// By the variables of AWS's own tools, and by their files.
fn by_the_environment(endpoint: &str) -> TestPlatform {
    let mut platform = shop_asking(endpoint, "environment", "");
    platform.set_variable("AWS_REGION", "eu-north-1");
    platform.set_variable("AWS_ACCESS_KEY_ID", CANARIES[0]);
    platform.set_variable("AWS_SECRET_ACCESS_KEY_FILE", "secret");
    platform.set_variable("AWS_SESSION_TOKEN", CANARIES[2]);
    platform
}

/// By a profile in the files of AWS's own tools.
fn by_a_profile(endpoint: &str) -> TestPlatform {
    let mut platform = shop_asking(endpoint, "profile", "profile = \"lake\"\n");
    let [id, secret, token] = CANARIES;
    let keys = format!(
        "[default]\naws_access_key_id = OTHER\naws_secret_access_key = other\n\n[lake]\n\
         aws_access_key_id = {id}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
    );
    let credentials = platform.write("credentials", &keys);
    let config = platform.write("config", "[profile lake]\nregion = eu-north-1\n");
    platform.set_variable("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap());
    platform.set_variable("AWS_CONFIG_FILE", config.to_str().unwrap());
    platform
}

#[test]
fn who_asks_and_in_which_region_reaches_the_store_whoever_says_it() {
    let Some(server) = S3Server::start() else { return };
    for way in [by_the_settings, by_the_environment, by_a_profile] {
        let proxy = server.proxy();
        let platform = way(&proxy.endpoint());
        let file = platform.write("all.ndjson", &Workload::new(1).inserts(5));
        let published = platform.publish(&file).ok();
        proxy.assert_signed(CANARIES[0], "eu-north-1", CANARIES[2]);
        let asked = platform.run(&["query", "SELECT id FROM silver.shop.customers"]).ok();
        proxy.assert_signed(CANARIES[0], "eu-north-1", CANARIES[2]);
        for said in [published, asked] {
            assert_quiet(&said.stdout);
            assert_quiet(&said.stderr);
        }
    }
}
