package apis

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Range is the versions of a request that somebody speaks, both ends in it.
type Range struct{ Min, Max int16 }

// Versions is what somebody speaks, by key. It is never changed.
type Versions map[int16]Range

// Has reports whether a version is spoken.
func (v Versions) Has(key, version int16) bool {
	r, ok := v[key]
	return ok && version >= r.Min && version <= r.Max
}

// Broker is one broker of a cluster that is, or may become, the home of something.
type Broker struct {
	// Name is for errors, with that of its cluster.
	Name string
	// Versions is what it speaks.
	Versions Versions
}

// needed are the requests without which a client gets nowhere.
var needed = []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata}

// Offer is what clients are told: what the table does not hide and all brokers speak. A key that they do not share is left out. The
// error names what no client can do without, and who does not speak it.
func Offer(brokers []Broker) (Versions, error) {
	out := ours()
	for _, b := range brokers {
		for key, r := range out {
			if key == int16(kmsg.ApiVersions) {
				continue // answered here
			}
			theirs, ok := b.Versions[key]
			got := Range{max(r.Min, theirs.Min), min(r.Max, theirs.Max)}
			if ok && got.Min <= got.Max {
				out[key] = got
				continue
			}
			if slices.Contains(needed, kmsg.Key(key)) {
				return nil, fmt.Errorf("offer versions: %s speaks %s %s, needed is a version of %d to %d, which the router and the brokers before it speak; upgrade one of them",
					b.Name, kmsg.NameForKey(key), theirs.text(ok), r.Min, r.Max)
			}
			delete(out, key)
		}
	}
	return out, nil
}

func (r Range) text(known bool) string {
	if !known {
		return "in no version"
	}
	return fmt.Sprintf("%d to %d", r.Min, r.Max)
}

// ours is what the table does not hide. The visible versions of a key are one range; a test keeps it so.
func ours() Versions {
	out := make(Versions)
	for _, row := range table {
		if row.Does == Hide {
			continue
		}
		r, ok := out[int16(row.Key)]
		if !ok {
			r = Range{row.From, row.To}
		}
		out[int16(row.Key)] = Range{min(r.Min, row.From), max(r.Max, row.To)}
	}
	return out
}

// AnswerVersions answers an ApiVersions request of a version. One that is not known is answered in version 0, with the error and the range
// of ApiVersions alone, so that the client asks again (KIP-511). No features are told: they would let clients speak
// what the versions hide.
func (v Versions) AnswerVersions(version int16) *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	add := func(key int16) {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = key, v[key].Min, v[key].Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	if !v.Has(int16(kmsg.ApiVersions), version) {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		add(int16(kmsg.ApiVersions))
		return resp
	}
	resp.Version = version
	for key := range int16(kmsg.MaxKey + 1) {
		if _, ok := v[key]; ok {
			add(key)
		}
	}
	return resp
}

// String lists the versions in the order of their keys, for logs.
func (v Versions) String() string {
	var b strings.Builder
	for key := range int16(kmsg.MaxKey + 1) {
		if r, ok := v[key]; ok {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s %d-%d", kmsg.NameForKey(key), r.Min, r.Max)
		}
	}
	return b.String()
}
