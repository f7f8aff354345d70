//! Where the lake stands, who asks its store, and what is never shown of that.

use std::fs;
use std::path::Path;

use alluvium_config::{
    BucketCredentials, BucketPlace, ConfigError, Environment, LakePlace, LoadOptions, Settings,
};
use tempfile::TempDir;

use crate::{said, shown};

const CANARY: &str = "canary-of-the-bucket";

fn folder(settings: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("alluvium.toml"), settings).unwrap();
    folder
}

fn load(folder: &Path, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let environment = Environment::from_pairs(environment.iter().copied());
    let path = Some(folder.to_owned());
    Settings::load(LoadOptions { path, environment, ..LoadOptions::default() })
}

fn bucket(settings: &str, environment: &[(&str, &str)]) -> Result<BucketPlace, ConfigError> {
    let folder = folder(settings);
    fs::write(folder.path().join("secret"), format!("{CANARY}\n")).unwrap();
    match load(folder.path(), environment)?.lake_place()? {
        LakePlace::Bucket(place) => Ok(*place),
        LakePlace::Folder(folder) => panic!("{}", folder.display()),
    }
}

fn keys(place: &BucketPlace) -> [String; 3] {
    match &place.credentials {
        BucketCredentials::Keys(id, key, token) => [Some(id), Some(key), token.as_ref()]
            .map(|secret| secret.map_or_else(String::new, |secret| secret.expose().to_owned())),
        BucketCredentials::Machine(told) => panic!("{told:?}"),
    }
}

const URL: &str = "[lake]\nurl = \"s3://my-lake/a/b/\"\n";

#[test]
fn a_bucket_is_found_with_its_store_and_who_asks() {
    let settings = format!(
        "{URL}[lake.s3]\nendpoint = \"https://minio.example:9000\"\nregion = \"eu\"\n\
         access_key_id = \"${{env:KEY}}\"\nsecret_access_key = \"${{file:secret}}\"\n"
    );
    let place = bucket(&settings, &[("KEY", "id")]).unwrap();
    assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("my-lake", "a/b"));
    assert_eq!(place.endpoint.as_deref(), Some("https://minio.example:9000"));
    assert_eq!(place.region, "eu");
    assert_eq!(keys(&place), ["id", CANARY, ""]);
    assert!(!format!("{place:?}").contains(CANARY));
}

#[test]
fn what_the_settings_leave_out_is_what_the_tools_of_aws_would_find() {
    let environment = [
        ("AWS_ENDPOINT_URL", "https://all.example"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
        ("AWS_DEFAULT_REGION", "eu-north-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "key"),
        ("AWS_SESSION_TOKEN", "token"),
    ];
    let place = bucket(URL, &environment).unwrap();
    assert_eq!(place.endpoint.as_deref(), Some("https://s3.example"));
    assert_eq!(place.region, "eu-north-1");
    assert_eq!(keys(&place), ["id", "key", "token"]);

    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let profile = "[default]\naws_access_key_id = d\naws_secret_access_key = dk\n[other]\n\
                   aws_access_key_id=o\naws_secret_access_key=ok\n";
    fs::write(home.path().join(".aws/credentials"), profile).unwrap();
    fs::write(home.path().join(".aws/config"), "[profile other]\nregion = ap\n").unwrap();
    let at_home = ("HOME", home.path().to_str().unwrap());
    assert_eq!(keys(&bucket(URL, &[at_home]).unwrap()), ["d", "dk", ""]);
    let other = bucket(URL, &[at_home, ("AWS_PROFILE", "other")]).unwrap();
    assert_eq!((keys(&other), other.region.as_str()), (["o", "ok", ""].map(str::to_owned), "ap"));
    let named = format!("{URL}[lake.s3]\nprofile = \"other\"\n");
    let named = bucket(&named, &[at_home, ("AWS_ACCESS_KEY_ID", "id")]).unwrap();
    assert_eq!(keys(&named)[0], "o", "a profile that the settings name wins");
    let none = bucket(URL, &[at_home, ("AWS_PROFILE", "none")]).unwrap_err();
    assert!(said(&none)[0].contains("there is no `none`"), "{none}");

    let machine = bucket(URL, &[("AWS_ROLE_ARN", "arn:x"), ("OTHER", "y")]).unwrap();
    let BucketCredentials::Machine(told) = machine.credentials else { panic!("whose keys?") };
    assert_eq!(told.len(), 1);
    assert_eq!(machine.region, "us-east-1");
}

#[test]
fn a_key_can_stand_in_a_file_that_a_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, "key\n").unwrap();
    let environment =
        [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY_FILE", file.to_str().unwrap())];
    assert_eq!(keys(&bucket(URL, &environment).unwrap()), ["id", "key", ""]);
    let gone = [("AWS_ACCESS_KEY_ID", "id")];
    let error = bucket(URL, &gone).unwrap_err();
    assert!(said(&error)[0].contains("AWS_SECRET_ACCESS_KEY"), "{error}");
}

#[test]
fn what_no_request_can_carry_is_refused_and_not_shown() {
    let fit = [
        ("AWS_REGION", "eu-north-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "key"),
        ("AWS_SESSION_TOKEN", "a/token+with=signs"),
    ];
    bucket(URL, &fit).unwrap();
    for (at, name) in
        [(0, "lake.s3.region"), (1, "lake.s3.access_key_id"), (3, "lake.s3.session_token")]
    {
        for wrong in ["canary\n", "two canary", "canary-ä"] {
            let mut environment = fit;
            environment[at].1 = wrong;
            let error = bucket(URL, &environment).unwrap_err();
            assert!(said(&error)[0].contains(name), "{error}");
            assert!(!format!("{error:?} {}", shown(&error)).contains("canary"), "{error}");
        }
    }
    let machine = bucket(URL, &[("AWS_REGION", "a region")]).unwrap_err();
    assert!(said(&machine)[0].contains("lake.s3.region"), "{machine}");
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    for (settings, told) in [
        ("[lake]\nurl = \"https://x/lake\"\n", "alluvium.toml:2:7: `lake.url`: this is no place"),
        ("[lake]\nurl = \"s3://UPPER\"\n", "no name of a bucket"),
        ("[lake]\nurl = \"s3://lake/a//b\"\n", "no prefix"),
        ("[lake]\nurl = \"s3://lake\"\npath = \"x\"\n", ":3:8: `lake.path`: the lake stands in"),
        ("[lake.s3]\nendpoint = \"http://x\"\n", "does not encrypt"),
        ("[lake.s3]\nendpoint = \"x\"\n", "no address of the web"),
        ("[lake.s3]\naccess_key_id = \"${env:A}\"\n", "its key is missing"),
        ("[lake.s3]\nsecret_access_key = \"${env:A}\"\n", "its name is missing"),
        ("[lake.s3]\nsession_token = \"${env:A}\"\n", "its key is missing"),
        ("[lake.s3]\nrequest_time = 0\n", "longer than no time"),
    ] {
        let error = load(folder(settings).path(), &[]).unwrap_err();
        assert!(said(&error).iter().any(|line| line.contains(told)), "{settings}: {error}");
    }
    let plain = bucket(URL, &[("AWS_ENDPOINT_URL", "http://x")]).unwrap_err();
    assert!(said(&plain)[0].contains("does not encrypt"), "{plain}");
}

#[test]
fn a_secret_in_the_open_is_refused_and_never_shown() {
    for settings in [
        format!("[lake.s3]\naccess_key_id = \"${{env:A}}\"\nsecret_access_key = \"{CANARY}\"\n"),
        format!("[lake.s3]\nsecret_acess_key = \"{CANARY}\"\n"),
        format!("[lake.s3]\nsecret_access_key = {CANARY}\n"),
        format!("[lake.s3]\nsecret_access_key = [\"{CANARY}\"]\n"),
        format!("[lake.s3]\nendpoint = \"https://me:{CANARY}@store.example\"\n"),
    ] {
        let error = load(folder(&settings).path(), &[]).unwrap_err();
        let all = format!("{error} {error:?} {} {:?}", shown(&error), said(&error));
        assert!(!all.contains(CANARY), "{settings}: {all}");
    }
    let empty = folder("");
    let flag = Settings::load(LoadOptions {
        path: Some(empty.path().to_owned()),
        overrides: vec![("lake.s3.secret_access_key".to_owned(), CANARY.to_owned())],
        environment: Environment::default(),
    });
    let error = flag.unwrap_err();
    assert!(said(&error)[0].contains("command line"), "{error}");
    assert!(!format!("{error:?}").contains(CANARY));
    // The environment is a place for secrets.
    let environment = [
        ("ALLUVIUM_LAKE__S3__ACCESS_KEY_ID", "id"),
        ("ALLUVIUM_LAKE__S3__SECRET_ACCESS_KEY", CANARY),
    ];
    let place = bucket(URL, &environment).unwrap();
    assert_eq!(keys(&place)[1], CANARY);
    let settings = load(empty.path(), &environment).unwrap();
    assert!(!format!("{settings:?}").contains(CANARY));
    assert!(!serde_json::to_string(&settings).unwrap().contains(CANARY));
}
