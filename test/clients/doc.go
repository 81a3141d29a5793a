// Package clients runs client programs of many libraries and versions against real Kafka, directly and through a router, and compares what comes of it:
// the matrix of docs/clients.md. What a program is told and tells is in package oracle, the programs are in the folder programs, and
// scripts/clients/fetch.sh brings the libraries.
//
// The brokers advertise addresses that do not exist on the listener that the router knows. So a client that learns where a broker is, and goes there,
// fails.
package clients
