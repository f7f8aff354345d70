//! Publisher and subscriber: the embedded log, and the contract suite of all buses.
