package demo

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/checker"
)

// uidHeader holds the uid of records whose value cannot: tombstones, and payments.
const uidHeader = "uid"

// idField begins the value of all other records.
const idField = `{"id":"`

// record makes the record of a number: always the same one for the same stream, uid and number.
func record(s stream, uid string, number int) broker.Record {
	r := broker.Record{Topic: s.topic}
	switch s.topic {
	case orders:
		r.Key = fmt.Appendf(nil, "customer-%d", number*7919%500)
		if number%50 == 49 { // a tombstone: the customer's last order is done
			r.Headers = []broker.RecordHeader{{Key: uidHeader, Value: []byte(uid)}}
			return r
		}
		r.Value = fmt.Appendf(nil, idField+`%s","customer":%d,"items":%d,"total":%d.%02d,"ship_to":"%s","note":"leave it with the neighbours"}`,
			uid, number*7919%500, number%9+1, number%300, number%100, s.cluster)
	case payments:
		r.Key = fmt.Appendf(nil, "account-%d", number*104729%2000)
		r.Value = fmt.Appendf(nil, `{"amount":%d,"currency":"EUR","status":"settled","method":"card"}`, number%10000)
		r.Headers = []broker.RecordHeader{
			{Key: uidHeader, Value: []byte(uid)},
			{Key: "trace", Value: fmt.Appendf(nil, "%016x", number*0x9e3779b1)},
			{Key: "tag", Value: []byte("a")}, {Key: "tag", Value: []byte{}}, // the same name twice, the second one empty
			{Key: "none", Value: nil}, // null, which is not empty
		}
	case audit:
		r.Value = fmt.Appendf(nil, idField+`%s","user":"u%d","did":"%s","at":"%s"}`, uid, number%77, []string{"login", "logout", "export"}[number%3], s.cluster)
	default: // transfers
		r.Key = fmt.Appendf(nil, "account-%d", number%2000)
		r.Value = fmt.Appendf(nil, idField+`%s","amount":%d}`, uid, number%1000)
	}
	return r
}

// uidOf finds the uid in a record; empty if it has none.
func uidOf(r broker.Record) string {
	for _, h := range r.Headers {
		if h.Key == uidHeader {
			return string(h.Value)
		}
	}
	rest, ok := bytes.CutPrefix(r.Value, []byte(idField))
	if !ok {
		return ""
	}
	id, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return ""
	}
	return string(id)
}

// judged is what the judge needs to know of a record that was read; false if nobody of this demo wrote it.
func judged(r broker.Record) (checker.Record, bool) {
	uid := uidOf(r)
	origin, _, ok := strings.Cut(uid, "/")
	if !ok {
		return checker.Record{}, false
	}
	headers := make([]checker.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = checker.Header{Key: h.Key, Value: h.Value}
	}
	return checker.Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		UID: uid, Origin: origin, Hash: checker.Hash(r.Key, r.Value, headers, r.Timestamp),
	}, true
}
