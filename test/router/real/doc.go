// Package real is a node with a router in front of real Kafka: three brokers that speak TLS to who knows their authority, which the node does and
// clients do not, so that a client which learns a broker's address and goes there fails.
package real
