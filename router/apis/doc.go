// Package apis says what the router does with each request of the Kafka protocol, version by version, and which versions clients are told.
//
// The table in table.go is data: one row per key and range of versions, and every version that kmsg knows is in just one row. From it come
// what a connection does with a request ([Of]), what clients are told ([Offer]), and docs/router-apis.md ([Page]).
//
// What clients are told must hold for as long as they live: a client learns it once per broker and takes it for a property of the cluster.
// So it is what the router and every cluster that may become home can do, and it is computed once.
package apis
