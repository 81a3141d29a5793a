package clients

import (
	"slices"

	"github.com/isthmus-project/isthmus/test/clients/program"
)

// Entry is a row of the matrix.
type Entry struct {
	program.Client
	// Without are the features that the library does not have, or that its program cannot do.
	Without []Feature
	// Frail says that it ends in trouble when brokers are killed, directly too.
	Frail bool
	// Small says that it is part of the smaller set, which CI runs.
	Small bool
}

// Has reports whether the client has a feature.
func (e Entry) Has(f Feature) bool { return !slices.Contains(e.Without, f) }

// Entries are the clients of the matrix.
var Entries = []Entry{
	{Client: program.Client{Kind: "java", Version: "4.3.0"}, Small: true},
	{Client: program.Client{Kind: "java", Version: "3.9.1"}},
	{Client: program.Client{Kind: "java", Version: "2.8.2"}, Without: []Feature{KIP848}},
	{Client: program.Client{Kind: "franz"}, Without: []Feature{Streams}, Small: true},
	{Client: program.Client{Kind: "confluent", Version: "2.16.1"}, Without: []Feature{Streams}, Small: true},
	{Client: program.Client{Kind: "confluent", Version: "2.0.2"}, Without: []Feature{KIP848, Streams}},
	{Client: program.Client{Kind: "kafka-python", Version: "3.0.12"}, Without: []Feature{KIP848, Streams}},
	{Client: program.Client{Kind: "aiokafka", Version: "0.14.0"}, Without: []Feature{Cooperative, KIP848, Streams}},
	{Client: program.Client{Kind: "sarama"}, Without: []Feature{Cooperative, KIP848, Streams}},
	{Client: program.Client{Kind: "kafkajs", Version: "2.2.4"}, Without: []Feature{Cooperative, KIP848, Static, Assign, Streams}, Frail: true, Small: true},
	// kcat does not say which partitions a cooperative member has; its library is confluent 2.0.2's.
	{Client: program.Client{Kind: "kcat"}, Without: []Feature{Transactional, Cooperative, KIP848, Streams}},
}
