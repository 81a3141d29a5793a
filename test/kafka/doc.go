// Package kafka runs real Apache Kafka clusters for tests: one broker or three, on loopback, each broker also a
// controller (KRaft), each a Java process of its own that can be killed, stopped, paused and started again on the
// data it had.
//
// What a broker is configured with, and how it is started, is in scripts/kafka, which serves people as well; this
// package owns ports, processes and readiness.
//
// Suites that need Kafka call Require or Start first. They run when ISTHMUS_KAFKA=1 and what they need (Java 17,
// Maven) is there; ISTHMUS_REQUIRE_KAFKA=1 makes it an error that something is missing. ISTHMUS_KAFKA_VERSION picks the
// release and ISTHMUS_KAFKA_HOME the folder that keeps its jars.
//
// Nothing outlives the test: brokers are killed at its end, and by the kernel if the test process itself is killed.
package kafka
