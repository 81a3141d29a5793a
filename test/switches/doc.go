// Package switches is a router whose home is moved between two real Kafka clusters, under clients of many libraries that write and read through it.
package switches
