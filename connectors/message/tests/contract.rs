//! The SDK's contract, against both engines.

use alluvium_connector::Registry;
use alluvium_connector::contract::{CANARY, Subject};
use alluvium_connector_message::MessageConnection;
use alluvium_model::{EntitySpec, SystemSpec};
use async_trait::async_trait;
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{self, Kafka, Nats, Sent};

struct MessageSubject {
    log: Log,
    failures: usize,
}

enum Log {
    Kafka(Box<Kafka>),
    Nats(Box<Nats>),
}

async fn kafka() -> MessageSubject {
    let kafka = Kafka::start();
    kafka.topic("things", 3);
    MessageSubject { log: Log::Kafka(Box::new(kafka)), failures: 0 }
}

/// Without a server of NATS, which its skip has told, the checks run against Kafka once more.
async fn nats() -> MessageSubject {
    let Some(nats) = Nats::start(Some(CANARY)).await else { return kafka().await };
    nats.stream("THINGS").await;
    MessageSubject { log: Log::Nats(Box::new(nats)), failures: 0 }
}

impl MessageSubject {
    fn connection(&self) -> Value {
        let mut connection = match &self.log {
            Log::Kafka(kafka) => {
                let mut connection = kafka.connection();
                connection["options"] = json!({"sasl.username": "shop", "sasl.password": CANARY});
                connection
            }
            Log::Nats(nats) => nats.connection(),
        };
        connection["timeout_seconds"] = json!(10);
        connection
    }
}

#[async_trait]
impl Subject for MessageSubject {
    fn registry(&self) -> Registry {
        world::registry()
    }

    fn system(&self) -> SystemSpec {
        world::system(&self.connection())
    }

    fn entity(&self) -> EntitySpec {
        world::entity(match &self.log {
            Log::Kafka(_) => json!({"topic": "things", "page_messages": 2}),
            Log::Nats(_) => json!({"stream": "THINGS", "subject": "things.*", "page_messages": 2}),
        })
    }

    fn connection_debug(&self) -> String {
        format!("{:?}", MessageConnection::deserialize(self.connection()).unwrap())
    }

    async fn put(&mut self, id: i64, value: &str) {
        let row = json!({"id": id, "value": value}).to_string();
        match &self.log {
            Log::Kafka(kafka) => {
                let (key, value) = (id.to_string(), Some(row.as_bytes()));
                let partition = i32::try_from(id % 3).unwrap();
                let sent = Sent { partition, key: Some(&key), value, ..Sent::default() };
                kafka.send("things", sent).await;
            }
            Log::Nats(nats) => nats.say(&format!("things.{id}"), &row).await,
        }
    }

    async fn move_quietly(&mut self) -> bool {
        match &self.log {
            Log::Kafka(kafka) => {
                kafka.send("things", Sent { value: Some(b"null"), ..Sent::default() }).await;
            }
            Log::Nats(nats) => nats.say("things.other.subject", "{}").await,
        }
        true
    }

    async fn limit_rate(&mut self) -> bool {
        // Both engines slow a client down rather than refuse it.
        false
    }

    async fn fail_next(&mut self) -> bool {
        self.failures += 1;
        match (&mut self.log, self.failures) {
            (Log::Kafka(kafka), 1) => kafka.order(|cluster| {
                let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
                cluster.topic_error("things", code).unwrap();
            }),
            (Log::Kafka(kafka), 2) => kafka.order(|cluster| cluster.broker_down(1).unwrap()),
            (Log::Nats(nats), 1) => {
                nats.jetstream.delete_stream("THINGS").await.unwrap();
            }
            (Log::Nats(nats), 2) => nats.server.server.kill(),
            _ => return false,
        }
        true
    }
}

mod on_kafka {
    alluvium_connector::contract_suite!(super::kafka);
}

mod on_nats {
    alluvium_connector::contract_suite!(super::nats);
}
