//! Settings: their order, their errors, and where relative paths start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use alluvium_config::{ConfigError, Environment, LoadOptions, LogLevel, Settings};
use tempfile::TempDir;

use crate::{said, shown};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load(
    folder: &Path,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Settings, ConfigError> {
    Settings::load(LoadOptions {
        path: Some(folder.to_owned()),
        overrides: flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        environment: Environment::from_pairs(environment.iter().copied()),
    })
}

#[test]
fn without_a_file_the_defaults_hold() {
    let folder = folder(&[]);
    let settings = load(folder.path(), &[], &[]).unwrap();
    assert_eq!(settings.http.listen, "127.0.0.1:7411".parse().unwrap());
    assert!(settings.http.enabled);
    assert_eq!(settings.layers.batch_records, 250_000);
    assert_eq!(settings.layers.raw_linger_time.duration(), Duration::from_secs(60));
    assert_eq!(settings.log.directives(), "info");
    assert_eq!(settings.file(), None);
    assert_eq!(settings.lake_path(), settings.folder().join("data/lake"));
    assert_eq!(settings.ledger_path(), settings.folder().join("data/ledger.db"));
    assert_eq!(settings.bus_path(), settings.folder().join("data/bus"));
}

#[test]
fn flags_win_over_environment_over_dotenv_over_file_over_defaults() {
    let folder = folder(&[
        (
            "alluvium.toml",
            "[runtime.retry]\nattempts = 1\n[layers]\nbatch_records = 1\n[log]\nlevel = \"warn\"\n\
             [http]\nenabled = false\n",
        ),
        (
            ".env",
            "ALLUVIUM_LAYERS__BATCH_RECORDS=2\nALLUVIUM_LOG__LEVEL=error\nALLUVIUM_HTTP__LISTEN='[::1]:1'\n",
        ),
    ]);
    let environment = [
        ("ALLUVIUM_LOG__LEVEL", "debug"),
        ("ALLUVIUM_HTTP__LISTEN", "127.0.0.1:2"),
        ("OTHER", "x"),
    ];
    let settings = load(folder.path(), &environment, &[("http.listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(settings.runtime.retry.attempts, 1, "the file wins over the defaults");
    assert_eq!(settings.layers.batch_records, 2, ".env wins over the file");
    assert_eq!(settings.log.level, LogLevel::Debug, "the environment wins over .env");
    assert_eq!(settings.http.listen.port(), 3, "flags win over all");
    assert!(!settings.http.enabled);
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let folder = folder(&[(
        "other.toml",
        "data = \"d\"\n[lake]\npath = \"/lake\"\n[metadata]\nsystems = \"m/s.json\"\n",
    )]);
    let settings = load(&folder.path().join("other.toml"), &[], &[]).unwrap();
    assert_eq!(settings.data_path(), folder.path().join("d"));
    assert_eq!(settings.ledger_path(), folder.path().join("d/ledger.db"));
    assert_eq!(settings.lake_path(), Path::new("/lake"));
    assert_eq!(settings.systems_path(), folder.path().join("m/s.json"));
    assert_eq!(settings.entities_path(), folder.path().join("entities.json"));
}

#[test]
fn the_environment_can_name_the_file() {
    let folder = folder(&[("x.toml", "data = \"d\"\n")]);
    let path = folder.path().join("x.toml");
    let environment = Environment::from_pairs([("ALLUVIUM_CONFIG", path.to_str().unwrap())]);
    let settings = Settings::load(LoadOptions { environment, ..LoadOptions::default() }).unwrap();
    assert_eq!(settings.file(), Some(path.as_path()));
}

#[test]
fn a_list_is_written_with_commas_outside_the_file() {
    let folder = folder(&[("alluvium.toml", "[http]\nallowed_hosts = [\"one.example\"]\n")]);
    let hosts = |environment: &[(&str, &str)]| {
        load(folder.path(), environment, &[]).unwrap().http.allowed_hosts
    };
    assert_eq!(hosts(&[]), ["one.example"]);
    let named = [("ALLUVIUM_HTTP__ALLOWED_HOSTS", "localhost, two.example")];
    assert_eq!(hosts(&named), ["localhost", "two.example"]);
    assert_eq!(hosts(&[("ALLUVIUM_HTTP__ALLOWED_HOSTS", "")]), [""; 0]);
    let wrong = [("http.allowed_hosts", "https://three.example")];
    let error = load(folder.path(), &[], &wrong).unwrap_err();
    assert!(said(&error)[0].contains("`https://three.example` is no host name"), "{error}");
}

#[test]
fn a_file_that_is_named_and_missing_is_an_error() {
    let folder = folder(&[]);
    let error = load(&folder.path().join("none.toml"), &[], &[]).unwrap_err();
    assert!(said(&error)[0].contains("none.toml: there is no such file"), "{error}");
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_where() {
    let folder = folder(&[(
        "alluvium.toml",
        "data = 7\n\n[http]\nlisen = \"x\"\n\n[layers]\nbatch_bytes = \"64 apples\"\nbatch_records = 0\n\n[htpp]\nx = 1\n",
    )]);
    let environment = [("ALLUVIUM_LOG__LEVEL", "loud"), ("ALLUVIUM_HTTP__LISTN", "1")];
    let error = load(folder.path(), &environment, &[("layers.batch_record", "x")]).unwrap_err();
    let said = said(&error);
    let file = folder.path().join("alluvium.toml").display().to_string();
    let expected = [
        format!("{file}:1:8: `data`: this must be text, not a number"),
        format!("{file}:4:1: there is no setting `http.lisen` (did you mean `listen`?"),
        format!("{file}:7:15: `layers.batch_bytes`: this does not have the right form (write a number of bytes"),
        format!("{file}:8:17: `layers.batch_records`: this is too little (at least 1)"),
        format!("{file}:10:2: there is no setting `htpp` (did you mean `http`?"),
        "ALLUVIUM_HTTP__LISTN: there is no setting `http.listn` (did you mean `listen`?".to_owned(),
        "ALLUVIUM_LOG__LEVEL: `log.level`: this is not one of the known values".to_owned(),
        "flag layers.batch_record: there is no setting `layers.batch_record` (did you mean `batch_records`?".to_owned(),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(&expected) {
        assert!(said.starts_with(expected), "\n{said}\n{expected}");
    }
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let folder = folder(&[("alluvium.toml", "[http]\nlisten = \n")]);
    let error = load(folder.path(), &[], &[]).unwrap_err();
    let said = said(&error);
    assert!(said.iter().any(|s| s.contains("alluvium.toml:2:")), "{said:#?}");
}

#[test]
fn values_that_do_not_fit_together_are_told() {
    let folder = folder(&[]);
    let wrong = |key: &str, value: &str| {
        let error = load(folder.path(), &[], &[(key, value)]).unwrap_err();
        said(&error).join("\n")
    };
    assert!(wrong("bus.embedded.max_unlanded_bytes", "32MB").contains("layers.raw_linger_bytes"));
    assert!(wrong("layers.batch_bytes", "1GB").contains("would not fit in"));
    assert!(wrong("runtime.retry.max", "1ms").contains("shorter than the first wait (1s)"));
    assert!(wrong("layers.raw_linger_time", "0s").contains("longer than no time"));
    assert!(wrong("http.listen", "999.1.1.1:80").contains("this is no address"));
    assert!(wrong("http.listen", "localhost").contains("127.0.0.1:7411"));
    assert!(wrong("bus.embedded.cache_bytes", "1KB").contains("at least 1MB"));
}

#[test]
fn a_bus_on_nats_is_known_in_one_way_and_its_secrets_stay_references() {
    let folder = folder(&[(
        "alluvium.toml",
        "[bus]\ntype = \"nats\"\n[bus.nats]\nuser = \"me\"\npassword = \"${env:NATS_PASSWORD}\"\n",
    )]);
    let environment = [
        ("NATS_PASSWORD", "hunter2"),
        ("ALLUVIUM_BUS__NATS__SERVERS", "tls://a.example, tls://b.example"),
    ];
    let settings = load(folder.path(), &environment, &[]).unwrap();
    assert_eq!(settings.bus.kind, alluvium_config::BusType::Nats);
    assert_eq!(settings.bus.nats.servers, ["tls://a.example", "tls://b.example"]);
    let password = settings.bus.nats.password.clone().unwrap();
    assert_eq!(settings.secret(&password).unwrap().expose(), "hunter2");
    let shown = format!("{settings:?}{}", serde_json::to_string(&settings).unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("${env:NATS_PASSWORD}"), "{shown}");
    let missing = load(folder.path(), &[], &[]).unwrap();
    let error = missing.secret(&password).unwrap_err();
    assert!(said(&error).join("\n").contains("NATS_PASSWORD"), "{error}");

    let wrong = |key: &str, value: &str| {
        let error = load(folder.path(), &environment, &[(key, value)]).unwrap_err();
        said(&error).join("\n")
    };
    assert!(wrong("bus.nats.token", "${env:T}").contains("second way to be known"));
    assert!(wrong("bus.nats.password", "${hunter2}").contains("no reference to a secret"));
    assert!(!wrong("bus.nats.password", "${hunter2}").contains("hunter2"));
    assert!(wrong("bus.nats.servers", "nats://a:hunter2@b").contains("must not hold a user"));
    assert!(!wrong("bus.nats.servers", "nats://a:hunter2@b").contains("hunter2"));
    assert!(wrong("bus.nats.tls.cert", "c.pem").contains("belong together"));
    assert!(wrong("bus.nats.prefix", "a.b").contains("bus.nats.prefix"));
    assert!(wrong("bus.nats.replicas", "7").contains("too much"));
    assert!(wrong("bus.type", "rabbit").contains("not one of the known values"));
    assert!(wrong("bus.nats.max_unlanded_bytes", "32MB").contains("bus.nats.max_unlanded_bytes"));
}

#[test]
fn a_broken_dotenv_does_not_show_its_lines() {
    let folder = folder(&[(".env", "TOKEN=hunter2 with 'an odd quote\n")]);
    let error = load(folder.path(), &[], &[]).unwrap_err();
    let text = format!("{error:?} {}", shown(&error));
    assert!(text.contains(".env") && text.contains("NAME=value"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn settings_show_no_secret_of_the_environment() {
    let folder = folder(&[(".env", "TOKEN=hunter2\n")]);
    let settings = load(folder.path(), &[("PASSWORD", "hunter2")], &[]).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&settings).unwrap().contains("hunter2"));
    assert_eq!(settings.secrets().resolve(&"${env:TOKEN}".into()).unwrap(), "hunter2");
}

#[test]
fn the_ledgers_database_is_named_without_its_password_which_is_resolved_late() {
    let url = "postgres://alluvium@db:5432/ledger";
    let text = format!("[ledger]\nurl = \"{url}\"\npassword = \"${{env:LEDGER}}\"\n");
    let folder = folder(&[("alluvium.toml", &text), ("secret", "hunter2\n")]);
    let settings = load(folder.path(), &[("LEDGER_FILE", "secret")], &[]).unwrap();
    assert_eq!(settings.ledger.url.as_deref(), Some(url));
    assert_eq!(settings.ledger_password().unwrap().unwrap().expose(), "hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let settings = load(folder.path(), &[], &[]).unwrap();
    let error = settings.ledger_password().unwrap_err();
    assert!(said(&error)[0].contains("neither LEDGER nor LEDGER_FILE"), "{error}");
}

#[test]
fn a_password_in_the_open_is_refused_and_shown_nowhere() {
    for text in [
        "[ledger]\nurl = \"postgres://a@db/x\"\npassword = \"hunter2\"\n",
        "[ledger]\nurl = \"postgres://a:hunter2@db/x\"\n",
        "[ledger]\nurl = \"postgres://a@db/x?password=hunter2\"\n",
        "[ledger]\nurl = \"postgres://a@db/x?sslpassword=hunter2\"\n",
        "[ledger]\npassword = \"hunter2\"\nretention = \"x\"\n",
        "[ledger]\npassword = \"hunter2\n",
    ] {
        let folder = folder(&[("ledger.toml", text)]);
        let error = load(&folder.path().join("ledger.toml"), &[], &[]).unwrap_err();
        let text = format!("{error:?} {}", shown(&error));
        assert!(text.contains("ledger.") && !text.contains("hunter2"), "{text}");
    }
    let folder = folder(&[]);
    let error = load(folder.path(), &[], &[("ledger.password", "hunter2")]).unwrap_err();
    let text = format!("{error:?} {}", shown(&error));
    assert!(text.contains("must not stand") && !text.contains("hunter2"), "{text}");
    let typo = ("ledger.url", "postgres://a@db/x?passwd=hunter2");
    let error = load(folder.path(), &[], &[typo]).unwrap_err();
    let text = format!("{error:?} {}", shown(&error));
    assert!(text.contains("`passwd`") && !text.contains("hunter2"), "{text}");
    // The environment is a place for secrets.
    let environment =
        [("ALLUVIUM_LEDGER__URL", "postgres://a@db/x"), ("ALLUVIUM_LEDGER__PASSWORD", "hunter2")];
    let settings = load(folder.path(), &environment, &[]).unwrap();
    assert_eq!(settings.ledger_password().unwrap().unwrap().expose(), "hunter2");
    let text = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn options_of_kafka_may_stand_in_the_open_but_for_secrets() {
    let told = |option: &str| {
        let text = format!("[bus.kafka.options]\n{option}\n");
        let folder = folder(&[("alluvium.toml", &text)]);
        load(folder.path(), &[], &[]).map_or_else(|error| said(&error), |_| Vec::new())
    };
    for option in [
        "\"sasl.mechanism\" = \"PLAIN\"",
        "\"ssl.key.location\" = \"/etc/k.pem\"",
        "\"session.timeout.ms\" = \"45000\"",
        "\"ssl.key.password\" = \"${env:KEY}\"",
    ] {
        assert!(told(option).is_empty(), "{option}");
    }
    let refused = told("\"ssl.key.password\" = \"canary-1\"");
    assert!(refused[0].contains("alluvium.toml:2:22"), "{refused:?}");
    assert!(refused[0].contains("must not stand") && !refused[0].contains("canary"), "{refused:?}");
}

#[test]
fn a_ledger_is_a_file_or_a_database() {
    let folder = folder(&[]);
    let url = ("ledger.url", "postgres://a@db/x");
    let told =
        |flags: &[(&str, &str)]| said(&load(folder.path(), &[], flags).unwrap_err()).join("\n");
    assert!(told(&[url, ("ledger.path", "x.db")]).contains("not both"));
    assert!(told(&[("ledger.password", "${env:A}")]).contains("give ledger.url"));
    assert!(told(&[("ledger.url", "mysql://db/x")]).contains("PostgreSQL"));
}

#[test]
fn the_secrets_of_kafka_are_resolved_late_and_never_shown() {
    let folder = folder(&[(
        "alluvium.toml",
        "[bus.kafka]\nusername = \"alluvium\"\npassword = \"${env:KAFKA}\"\n\
         [bus.kafka.options]\n\"sasl.mechanism\" = \"PLAIN\"\n\
         \"ssl.key.password\" = \"${env:KEY}\"\n",
    )]);
    let secrets = [("KAFKA", "canary-1"), ("KEY", "canary-2")];
    let settings = load(folder.path(), &secrets, &[]).unwrap();
    let kafka = settings.kafka().unwrap();
    assert_eq!(kafka.password.as_ref().unwrap().expose(), "canary-1");
    assert_eq!(kafka.options["ssl.key.password"].expose(), "canary-2");
    assert_eq!(kafka.options["sasl.mechanism"].expose(), "PLAIN");
    let shown = format!("{settings:?} {kafka:?} {}", serde_json::to_string(&kafka).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
    let error = load(folder.path(), &secrets[..1], &[]).unwrap().kafka().unwrap_err();
    let text = self::shown(&error);
    assert!(text.contains("KEY") && !text.contains("canary"), "{text}");
}

#[test]
fn settings_read_back_what_they_write() {
    let folder = folder(&[]);
    let settings = load(folder.path(), &[], &[("log.filter", "info,x=debug")]).unwrap();
    let text = toml::to_string(&settings).unwrap();
    fs::write(folder.path().join("alluvium.toml"), text).unwrap();
    let again = load(folder.path(), &[], &[]).unwrap();
    assert_eq!(again.log, settings.log);
    assert_eq!(again.layers, settings.layers);
    assert_eq!(again.log.directives(), "info,x=debug");
}
