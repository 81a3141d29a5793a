// Package real is the door in front of real Kafka: three brokers that advertise addresses which do not exist, so that any client which learns
// one and goes there fails.
package real
