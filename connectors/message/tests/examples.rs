//! The examples of the README, and those that users copy.

use alluvium_model::{EntitySpec, SystemSpec};
use serde_json::Value;

use crate::world::registry;

fn file(text: &str, member: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()[member].take()
}

fn check(systems: &str, entities: &str) {
    let systems: Vec<SystemSpec> = serde_json::from_value(file(systems, "systems")).unwrap();
    let entities: Vec<EntitySpec> = serde_json::from_value(file(entities, "entities")).unwrap();
    assert!(!systems.is_empty() && !entities.is_empty());
    for system in &systems {
        registry().check_connection(system).unwrap();
    }
    for entity in &entities {
        registry().check_source("message", entity).unwrap();
        assert!(systems.iter().any(|system| system.name == entity.system));
    }
}

#[test]
fn the_examples_are_valid() {
    check(include_str!("../examples/systems.json"), include_str!("../examples/entities.json"));
    check(
        include_str!("../../../config/examples/debezium/systems.json"),
        include_str!("../../../config/examples/debezium/entities.json"),
    );
    for block in include_str!("../README.md").split("```json").skip(1) {
        serde_json::from_str::<Value>(block.split("```").next().unwrap()).unwrap();
    }
}
