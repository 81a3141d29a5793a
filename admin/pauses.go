package admin

import (
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/topology"
)

// everything stands in a pause for all topics.
const everything = "*"

// parsePause reads the key of a setting that is a pause.
func parsePause(key string) (topology.Pause, bool) {
	p, err := topology.ParsePause(topology.Setting{Key: key, Value: []byte("{}")})
	return p, err == nil
}

// touchOf is what a pause concerns.
func touchOf(p topology.Pause) Touch {
	return Touch{Link: p.Link, Topics: []string{p.Topics.String()}, Partitions: p.Partitions}
}

// pauseName is what people call it: LINK TOPIC:P,P.
func pauseName(p topology.Pause) string {
	text := p.Link + " " + p.Topics.String()
	if key := p.Key(); p.Partitions != nil {
		text += ":" + key[strings.LastIndexByte(key, '/')+1:]
	}
	return valid(text)
}

// samePartitions reports whether all partitions of p are among those of q, whatever their topics.
func samePartitions(p, q topology.Pause) bool {
	if p.Partitions == nil || q.Partitions == nil {
		return q.Partitions == nil
	}
	return !slices.ContainsFunc(p.Partitions, func(n int32) bool { return !slices.Contains(q.Partitions, n) })
}

// mayMeet reports whether a pause that is not within p may still concern some of it.
func mayMeet(q, p topology.Pause) bool {
	if p.Partitions != nil && q.Partitions != nil && !slices.ContainsFunc(q.Partitions, func(n int32) bool { return slices.Contains(p.Partitions, n) }) {
		return false
	}
	return includes(q.Topics, p.Topics.String())
}
