package mirror

import (
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// follows reports whether a setting of topics is kept alike. What belongs to the cluster never is.
func follows(k topology.Keeps, name string) bool {
	return k.Configs.Match(name) && !k.ConfigsExclude.Match(name) && !never(name)
}

// never reports the settings that no mirror copies.
func never(name string) bool {
	return slices.Contains(neverCopied, name) || slices.ContainsFunc(neverCopiedPrefix, func(p string) bool { return strings.HasPrefix(name, p) })
}

// sided is one subject with its items on both sides.
type sided struct {
	key  noteKey
	kept kept
	// source and target have the values by name.
	source, target map[string]string
	decided        []judged        // without notes
	spared         map[string]bool // not to be looked at, whatever was noted of them
}

// compareConfigs puts the settings of a topic beside each other: those that are set on the topic itself and are followed. Values that a
// broker hides are in neither.
func compareConfigs(topic string, k topology.Keeps, how kept, source, target map[string]broker.Config) sided {
	how.adopts = true
	s := sided{key: noteKey{kind: DriftConfig, topic: topic}, kept: how, source: make(map[string]string), target: make(map[string]string)}
	take := func(from map[string]broker.Config, into map[string]string) {
		for name, c := range from {
			if c.Dynamic && c.Value != "" && !slices.Contains(effective, name) && follows(k, name) {
				into[name] = c.Value
			}
		}
	}
	take(source, s.source)
	take(target, s.target)
	for _, name := range effective {
		if there, here := source[name], target[name]; there.Dynamic && follows(k, name) {
			if j, differs := raise(name, there, here); differs {
				s.decided = append(s.decided, j)
			}
		}
	}
	return s
}

// raise is for settings that say what a topic takes. The target's is never lowered: the source may hold records of the time when its
// own was higher, and they would not get in any more.
func raise(name string, source, target broker.Config) (judged, bool) {
	j := judged{name: name, source: item{source.Value, true}, target: item{target.Value, target.Value != ""}, outcome: outcome{keeps: true}}
	want, err := strconv.ParseInt(source.Value, 10, 64)
	have, bad := strconv.ParseInt(target.Value, 10, 64)
	switch {
	case source.Value == target.Value || err != nil:
		return j, false
	case bad == nil && want < have:
		j.do, j.why = doLeave, "never lowered, for older records of the source may need it"
	default:
		j.do, j.why = doSet, "the source takes more"
	}
	return j, true
}

// configChanges are the changes of one topic.
func configChanges(topic string, all []judged) broker.TopicChanges {
	t := broker.TopicChanges{Topic: topic}
	for _, j := range all {
		switch j.do {
		case doSet:
			t.Changes = append(t.Changes, broker.ConfigChange{Name: j.name, Value: j.source.value})
		case doRemove:
			t.Changes = append(t.Changes, broker.ConfigChange{Name: j.name, Remove: true})
		}
	}
	slices.SortFunc(t.Changes, func(a, b broker.ConfigChange) int { return strings.Compare(a.Name, b.Name) })
	return t
}
