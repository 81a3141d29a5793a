package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The keys of settings that are of no topology.
const (
	pausePrefix = "pause/"
	drainPrefix = "drain/"
	// LogLevelKey is the key of the level that all nodes log at.
	LogLevelKey = "log/level"
)

// maxPausedPartitions bounds the partitions that one pause names; more of them are all, or several pauses.
const maxPausedPartitions = 1000

// Pause stops copying: some partitions of the topics that a pattern matches, now or when they are made, on one link.
type Pause struct {
	Link   string
	Topics Pattern
	// Partitions are in order and each once; nil: all, also those that do not exist yet.
	Partitions []int32
	// Until is when it ends by itself; zero: when somebody ends it.
	Until time.Time
}

// Key is the key of the pause's setting.
func (p Pause) Key() string {
	partitions := "*"
	if p.Partitions != nil {
		texts := make([]string, len(p.Partitions))
		for i, n := range p.Partitions {
			texts[i] = strconv.Itoa(int(n))
		}
		partitions = strings.Join(texts, ",")
	}
	return pausePrefix + p.Link + "/" + p.Topics.text + "/" + partitions
}

// pauseValue is the form of a pause's value.
type pauseValue struct {
	Until *time.Time `json:"until,omitempty"`
}

// Setting is the pause as a setting.
func (p Pause) Setting() Setting {
	var v pauseValue
	if !p.Until.IsZero() {
		until := p.Until.UTC()
		v.Until = &until
	}
	value, err := json.Marshal(v)
	if err != nil {
		value = []byte("{}") // a year that JSON cannot write is as good as for ever
	}
	return Setting{Key: p.Key(), Value: value}
}

// NewPause checks what somebody wants to pause; partitions in any order, none for all.
func NewPause(link, topics string, partitions []int32, until time.Time) (Pause, error) {
	pattern, err := parseTopicPattern(topics)
	if err != nil {
		return Pause{}, err
	}
	p := Pause{Link: link, Topics: pattern, Until: until}
	if len(partitions) > 0 {
		p.Partitions = slices.Clone(partitions)
		slices.Sort(p.Partitions)
		p.Partitions = slices.Compact(p.Partitions)
	}
	return ParsePause(p.Setting())
}

// ParsePause reads a pause's setting. Its error is an Error.
func ParsePause(s Setting) (Pause, error) {
	rest, ok := strings.CutPrefix(s.Key, pausePrefix)
	link, rest, also := strings.Cut(rest, "/")
	last := strings.LastIndexByte(rest, '/') // a regexp may hold more of them
	if !ok || !also || last < 0 || !identity.MatchString(link) {
		return Pause{}, fault(s.Key, "a pause's key is %sLINK/TOPICS/PARTITIONS, with * for all partitions", pausePrefix)
	}
	p := Pause{Link: link}
	var err error
	if p.Topics, err = parseTopicPattern(rest[:last]); err != nil {
		return Pause{}, fault(s.Key, "%v", err)
	}
	if p.Partitions, err = parsePartitions(rest[last+1:]); err != nil {
		return Pause{}, fault(s.Key, "%v", err)
	}
	var v pauseValue
	if err := json.Unmarshal(s.Value, &v); err != nil {
		return Pause{}, fault(s.Key, "a pause's value is {} or {\"until\": \"2026-01-31T12:00:00Z\"}")
	}
	if v.Until != nil {
		p.Until = *v.Until
	}
	return p, nil
}

func parsePartitions(text string) (partitions []int32, err error) {
	if text == "*" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	if len(list) > maxPausedPartitions {
		return nil, fmt.Errorf("%d partitions are too many for one pause, the limit is %d; pause them in several, or all", len(list), maxPausedPartitions)
	}
	for _, text := range list {
		n, err := strconv.ParseInt(text, 10, 32)
		switch {
		case err != nil || n < 0 || strconv.FormatInt(n, 10) != text:
			return nil, fmt.Errorf("%s is no partition; write numbers from 0 with commas between, or * for all", clip(text))
		case len(partitions) > 0 && int32(n) <= partitions[len(partitions)-1]:
			return nil, errors.New("the partitions are not in order, or one is there twice")
		}
		partitions = append(partitions, int32(n))
	}
	return partitions, nil
}

// covers tells whether the pause means a partition.
func (p Pause) covers(topic string, partition int32, now time.Time) bool {
	if !p.Until.IsZero() && !now.Before(p.Until) || !p.Topics.Match(topic) {
		return false
	}
	_, found := slices.BinarySearch(p.Partitions, partition)
	return p.Partitions == nil || found
}

// Pauses are all pauses of a fabric. They are immutable.
type Pauses struct{ byLink map[string][]Pause }

// NewPauses takes the pauses out of settings. What is no pause as it should be is left out and in the
// error, which is Errors.
func NewPauses(settings []Setting) (Pauses, error) {
	ps := Pauses{byLink: make(map[string][]Pause)}
	var bad Errors
	settings = slices.SortedFunc(slices.Values(settings), compareSettings)
	for _, s := range settings {
		if s.Deleted || !strings.HasPrefix(s.Key, pausePrefix) {
			continue
		}
		p, err := ParsePause(s)
		if err != nil {
			bad = append(bad, asFault(s.Key, err))
			continue
		}
		ps.byLink[p.Link] = append(ps.byLink[p.Link], p)
	}
	if len(bad) > 0 {
		return ps, bad
	}
	return ps, nil
}

// Find returns a pause of a partition, the one that lasts longest: what is found is over only if all are.
func (ps Pauses) Find(link, topic string, partition int32, now time.Time) (found Pause, ok bool) {
	for _, p := range ps.byLink[link] {
		if !p.covers(topic, partition, now) {
			continue
		}
		if !ok || !found.Until.IsZero() && (p.Until.IsZero() || p.Until.After(found.Until)) {
			found, ok = p, true
		}
	}
	return found, ok
}

// Next is when the first of the pauses that still last ends by itself; zero if none does.
func (ps Pauses) Next(now time.Time) (next time.Time) {
	for _, list := range ps.byLink {
		for _, p := range list {
			if p.Until.After(now) && (next.IsZero() || p.Until.Before(next)) {
				next = p.Until
			}
		}
	}
	return next
}

// All returns the pauses of a link that have not ended, by key.
func (ps Pauses) All(link string, now time.Time) (all []Pause) {
	for _, p := range ps.byLink[link] {
		if p.Until.IsZero() || now.Before(p.Until) {
			all = append(all, p)
		}
	}
	return all
}

// draining is the value of a drain.
const draining = "true"

// DrainKey is the key of the setting that makes a node give its work away.
func DrainKey(node string) string { return drainPrefix + node }

// DrainSetting is the setting that makes a node give its work away.
func DrainSetting(node string) Setting {
	return Setting{Key: DrainKey(node), Value: []byte(draining)}
}

// Drained are the nodes that are to give their work away.
func Drained(settings []Setting) map[string]bool {
	nodes := make(map[string]bool)
	for _, s := range settings {
		if node, ok := strings.CutPrefix(s.Key, drainPrefix); ok && !s.Deleted && string(s.Value) == draining {
			nodes[node] = true
		}
	}
	return nodes
}

// LogLevel is the level that settings have all nodes log at; false if none does.
func LogLevel(settings []Setting) (slog.Level, bool) {
	for _, s := range settings {
		if s.Key == LogLevelKey && !s.Deleted {
			level, err := parseLevel(string(s.Value))
			return level, err == nil
		}
	}
	return 0, false
}

func parseLevel(text string) (level slog.Level, err error) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, text) {
		return 0, fmt.Errorf("%s is no level; write debug, info, warn or error", clip(text))
	}
	err = level.UnmarshalText([]byte(text))
	return level, err
}
