//! As whom the bus connects to Kafka and over what, and that no secret shows. The mock cluster lets
//! everybody in: a front before it does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{KafkaBus, KafkaSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, FetchLimit, Layer, Publisher, Remedy, Secret, Span, SystemClock};
use alluvium_testkit::{
    Certificates, Entry, KafkaFront, KafkaLogin, KafkaMock, KafkaTls, Mechanism,
};

use super::mock::{TOPICS, settings_at};
use crate::log::Lines;
use crate::support::{OWNER, page, record, topic};

const USER: &str = "alluvium";
const CANARY: &str = "canary-9b3e";

/// A cluster behind a front.
struct Cluster {
    front: KafkaFront,
    certificates: Option<Certificates>,
    _mock: KafkaMock,
}

impl Cluster {
    fn open(login: Mechanism) -> Self {
        Self::new(None, false, Some(login))
    }

    /// With TLS; `None` where no certificates can be made.
    fn tls(of_clients_too: bool, login: Option<Mechanism>) -> Option<Self> {
        Some(Self::new(Some(Certificates::make()?), of_clients_too, login))
    }

    fn new(
        certificates: Option<Certificates>,
        of_clients_too: bool,
        login: Option<Mechanism>,
    ) -> Self {
        let mock = KafkaMock::with_topics(TOPICS);
        let tls = certificates.as_ref();
        let tls = tls.map(|certificates| KafkaTls { certificates, of_clients_too });
        let login = login.map(|mechanism| KafkaLogin {
            mechanism,
            user: USER.to_owned(),
            password: CANARY.to_owned(),
        });
        Self { front: KafkaFront::before(&mock, tls, login), certificates, _mock: mock }
    }

    /// The settings of who knows everything, but for a certificate of its own.
    fn settings(&self, login: Option<Mechanism>) -> KafkaSettings {
        let mut options = BTreeMap::new();
        let mut option = |name: &str, value: &str| {
            options.insert(name.to_owned(), Secret::new(value));
        };
        option(
            "security.protocol",
            match (&self.certificates, login) {
                (None, None) => "plaintext",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), None) => "ssl",
                (Some(_), Some(_)) => "sasl_ssl",
            },
        );
        // Whatever librdkafka could tell is to be seen.
        option("debug", "all");
        if let Some(login) = login {
            option("sasl.mechanism", login.name());
        }
        if self.certificates.is_some() {
            option("ssl.ca.location", &self.path("ca.pem").display().to_string());
        }
        KafkaSettings {
            options,
            username: login.map(|_| USER.to_owned()),
            password: login.map(|_| Secret::new(CANARY)),
            ..settings_at(self.front.servers())
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.certificates.as_ref().unwrap().folder().join(name)
    }

    /// Settings with one more file.
    fn with(&self, mut settings: KafkaSettings, option: &str, file: &str) -> KafkaSettings {
        let file = self.path(file).display().to_string();
        settings.options.insert(option.to_owned(), Secret::new(file));
        settings
    }
}

/// Publishes a page with its cursor, reads it, and asks another process for the cursor. Every
/// connection, of each kind of client, has become this.
async fn works(cluster: &Cluster, settings: KafkaSettings, entry: &Entry) {
    let log = Lines::of_all();
    let connect = || KafkaBus::connect(settings.clone(), Arc::new(SystemClock));
    let bus = connect().await.unwrap();
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let polled = page([vec![2], vec![3]]);
    let span = bus.publish(&topic(), polled, Some(record(1))).await.unwrap().span;
    let mut silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let mut read = Vec::new();
    while read.len() < 3 {
        let delivery = silver.fetch(FetchLimit::default()).await.unwrap();
        read.extend(delivery.messages.iter().map(|message| message.payload.to_vec()));
    }
    assert_eq!(read, [[1], [2], [3]]);
    silver.commit(&Span { after: 0, ..span }).await.unwrap();
    let other = connect().await.unwrap();
    assert_eq!(other.cursor(&topic()).await.unwrap(), Some(record(1)));
    let entries = cluster.front.entries();
    assert!(entries.iter().all(|one| one == entry), "{entries:?}");
    // Of each process who looks and who manages, and of the first two who publish and who reads.
    assert!(entries.len() >= 6, "{entries:?}");
    assert!(log.count(&["said="]) > 0, "librdkafka has told nothing");
    assert!(log.count(&[CANARY]) == 0, "a secret shows in the log");
}

/// Why the cluster cannot be used so: told long before patience ends.
async fn refusal(settings: KafkaSettings) -> String {
    let log = Lines::of_all();
    let connecting = KafkaBus::connect(settings.clone(), Arc::new(SystemClock));
    let error = connecting.await.err().expect("it is refused");
    assert!(matches!(error, BusError::Refused(_)), "{error:?}");
    assert!(matches!(error.remedy(), Remedy::Operator(_)));
    let said = format!("{error} {error:?} {settings:?}");
    assert!(!said.contains(CANARY), "{said}");
    assert!(log.count(&[CANARY]) == 0, "a secret shows in the log");
    said
}

const PLAIN: Option<Mechanism> = Some(Mechanism::Plain);
const SCRAM: Option<Mechanism> = Some(Mechanism::ScramSha512);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_logs_in_over_tls() {
    for login in [PLAIN, SCRAM] {
        let Some(cluster) = Cluster::tls(false, login) else { return };
        works(&cluster, cluster.settings(login), &Entry::In(Some(USER.to_owned()))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_shows_the_certificate_that_is_demanded() {
    let Some(cluster) = Cluster::tls(true, None) else { return };
    let settings = cluster.with(cluster.settings(None), "ssl.certificate.location", "client.pem");
    let settings = cluster.with(settings, "ssl.key.location", "client.key");
    works(&cluster, settings, &Entry::In(None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_as_such() {
    for login in [Mechanism::Plain, Mechanism::ScramSha512] {
        let cluster = Cluster::open(login);
        let right = cluster.settings(Some(login));
        let wrong = Some(Secret::new(format!("{CANARY}-wrong")));
        let said = refusal(KafkaSettings { password: wrong, ..right }).await;
        assert!(said.contains("does not let us in") && said.contains("127.0.0.1"), "{said}");
        assert!(said.contains("Invalid username or password"), "{said}");
        let entries = cluster.front.entries();
        assert!(!entries.is_empty(), "the front was asked");
        let refused = Entry::Refused(USER.to_owned());
        assert!(entries.iter().all(|entry| *entry == refused), "{entries:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_to_log_in_that_is_not_offered_is_told() {
    let cluster = Cluster::open(Mechanism::ScramSha512);
    let said = refusal(cluster.settings(PLAIN)).await;
    assert!(said.contains("PLAIN") && said.contains("SCRAM-SHA-512"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_or_a_name_that_is_missing_is_told_before_anybody_is_asked() {
    let cluster = Cluster::open(Mechanism::Plain);
    let right = cluster.settings(PLAIN);
    for missing in [
        KafkaSettings { password: None, ..right.clone() },
        KafkaSettings { username: None, ..right },
    ] {
        let said = refusal(missing).await;
        assert!(said.contains("`username` and `password` must be set"), "{said}");
    }
    assert_eq!(cluster.front.entries(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_for_whom_the_authority_does_not_vouch_are_not_used() {
    let Some(cluster) = Cluster::tls(false, PLAIN) else { return };
    let right = cluster.settings(PLAIN);
    let said = refusal(cluster.with(right.clone(), "ssl.ca.location", "other.pem")).await;
    assert!(said.contains("certificate") && said.contains("ssl.ca.location"), "{said}");
    let said = refusal(cluster.with(right, "ssl.ca.location", "none.pem")).await;
    assert!(said.contains("ssl.ca.location"), "{said}");
    let entries = cluster.front.entries();
    assert!(entries.iter().all(|entry| matches!(entry, Entry::NoTls(_))), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_the_certificate_that_is_demanded_is_told() {
    let Some(cluster) = Cluster::tls(true, None) else { return };
    let said = refusal(cluster.settings(None)).await;
    assert!(said.contains("certificate required"), "{said}");
    let stranger = cluster.with(cluster.settings(None), "ssl.certificate.location", "other.pem");
    let said = refusal(cluster.with(stranger, "ssl.key.location", "other.key")).await;
    assert!(said.contains("alert"), "{said}");
    let entries = cluster.front.entries();
    assert!(entries.iter().all(|entry| matches!(entry, Entry::NoTls(_))), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_log_in_where_it_must_is_told_what_the_brokers_did() {
    let cluster = Cluster::open(Mechanism::Plain);
    let patience = Duration::from_secs(10);
    let settings = KafkaSettings { patience, ..cluster.settings(None) };
    let error = KafkaBus::connect(settings, Arc::new(SystemClock)).await.err().unwrap();
    let BusError::Unavailable(said) = error else { panic!("{error:?}") };
    assert!(said.contains("Disconnected") && said.contains("127.0.0.1"), "{said}");
    assert!(said.contains("another `security.protocol`"), "{said}");
    assert!(cluster.front.entries().iter().all(|entry| *entry == Entry::Unknown));
}
