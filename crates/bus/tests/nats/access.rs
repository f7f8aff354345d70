//! As whom the bus connects to NATS, and that no secret shows.

use std::sync::Arc;

use alluvium_bus::{NatsAccess, NatsBus, NatsSettings, NatsTls};
use alluvium_model::{BusError, Publisher, Remedy, Secret, SystemClock};
use alluvium_testkit::Certificates;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;

use super::{connect, server, settings};
use crate::support::{page, topic};

const CANARY: &str = "canary-f7c1";
/// A pair that stands in the documentation of NATS.
const NKEY_SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const NKEY_PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

async fn refusal(settings: NatsSettings) -> String {
    let error = NatsBus::connect(settings.clone(), Arc::new(SystemClock)).await;
    let error = error.err().expect("it is refused");
    assert!(matches!(error, BusError::Refused(_)), "{error:?}");
    assert!(matches!(error.remedy(), Remedy::Operator(_)));
    let said = format!("{error} {error:?} {settings:?}");
    assert!(!said.contains(CANARY), "{said}");
    said
}

fn user(password: &str) -> NatsAccess {
    NatsAccess::User { user: "alluvium".to_owned(), password: Secret::new(password) }
}

async fn works(settings: NatsSettings) {
    let bus = connect(settings).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_right_password_comes_in_and_no_other() {
    let config = format!("authorization {{ user: alluvium, password: \"{CANARY}\" }}");
    let server = server!(&config);
    let with = |access| NatsSettings { access, ..settings(&server) };
    works(with(user(CANARY))).await;
    for wrong in [user("canary-f7c1-wrong"), NatsAccess::Open] {
        let said = refusal(with(wrong)).await;
        assert!(said.contains("refuses the credentials") && said.contains("127.0.0.1"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens() {
    let server = server!(&format!("authorization {{ token: \"{CANARY}\" }}"));
    let with = |token: &str| NatsSettings {
        access: NatsAccess::Token(Secret::new(token)),
        ..settings(&server)
    };
    works(with(CANARY)).await;
    assert!(refusal(with("canary-f7c1-wrong")).await.contains("refuses the credentials"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_opens() {
    let server = server!(&format!("authorization {{ users: [{{ nkey: {NKEY_PUBLIC} }}] }}"));
    let with = |seed: &str| NatsSettings {
        access: NatsAccess::Nkey(Secret::new(seed)),
        ..settings(&server)
    };
    works(with(&format!("{NKEY_SEED}\n"))).await;
    assert!(refusal(with(CANARY)).await.contains("nkey"));
}

/// What `by` says of `whom`, as NATS writes it.
fn claim(by: &KeyPair, whom: &KeyPair, nats: &str) -> String {
    let claims = format!(
        r#"{{"jti":"test","iat":1,"iss":"{}","sub":"{}","name":"test","nats":{nats}}}"#,
        by.public_key(),
        whom.public_key()
    );
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = br#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
    let said = format!("{}.{}", part(header), part(claims.as_bytes()));
    let signature = by.sign(said.as_bytes()).unwrap();
    format!("{said}.{}", part(&signature))
}

fn credentials(user: &KeyPair, claim: &str) -> NatsAccess {
    NatsAccess::Credentials(Secret::new(format!(
        "-----BEGIN NATS USER JWT-----\n{claim}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_opens_and_one_of_another_account_does_not() {
    let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
    let (account, system) = (KeyPair::new_account(), KeyPair::new_account());
    let limits = r#""subs":-1,"data":-1,"payload":-1,"conn":-1,"leaf":-1,"wildcards":true"#;
    let of =
        |more: &str| format!(r#"{{"type":"account","version":2,"limits":{{{limits}{more}}}}}"#);
    let stores = r#","mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#;
    let server = server!(&format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n{}: {}\n{}: {}\n}}",
        claim(&operator, &operator, r#"{"type":"operator","version":2}"#),
        system.public_key(),
        system.public_key(),
        claim(&operator, &system, &of("")),
        account.public_key(),
        claim(&operator, &account, &of(stores))
    ));
    let by = |account: &KeyPair| {
        let rights = r#"{"type":"user","version":2,"subs":-1,"data":-1,"payload":-1}"#;
        let access = credentials(&user, &claim(account, &user, rights));
        NatsSettings { access, ..settings(&server) }
    };
    works(by(&account)).await;
    let said = refusal(by(&KeyPair::new_account())).await;
    assert!(said.contains("refuses the credentials"), "{said}");
    assert!(!said.contains(&user.seed().unwrap()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_credentials_file_is_said_without_showing_it() {
    let server = server!();
    let access = NatsAccess::Credentials(Secret::new(format!("-----BEGIN\n{CANARY}\n-----END")));
    let said = refusal(NatsSettings { access, ..settings(&server) }).await;
    assert!(said.contains("no credentials file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_holds_with_the_right_authority_and_with_no_other() {
    // Another test of this process may have been faster.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let Some(certificates) = Certificates::make() else { return };
    let path = |name: &str| certificates.folder().join(name);
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    );
    let server = server!(&config);
    let with = |tls| NatsSettings { tls, ..settings(&server) };
    let tls = NatsTls {
        required: true,
        ca: Some(path("ca.pem")),
        identity: Some((path("client.pem"), path("client.key"))),
    };
    works(with(tls.clone())).await;
    for ca in [None, Some(path("other.pem"))] {
        let said = refusal(with(NatsTls { ca, ..tls.clone() })).await;
        assert!(said.contains("TLS"), "{said}");
    }
    let said = refusal(with(NatsTls { ca: Some(path("none.pem")), ..tls })).await;
    assert!(said.contains("bus.nats.tls") && said.contains("none.pem"), "{said}");
}
