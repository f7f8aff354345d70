//! The Kafka bus keeps the contract of all buses.

use crate::kafka::mock::Mock;

alluvium_bus::bus_contract!(Mock::new(), bounded, brokered);
