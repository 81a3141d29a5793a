package sets

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/isthmus-project/isthmus/topology"
)

// Here knows what is of a connection's own set.
type Here interface {
	// Topic reports whether a topic is of the set.
	Topic(name string) bool
	// Group reports whether a group or a transactional id is.
	Group(id string) bool
	// Where says, for people, at which slots a topic is served.
	Where(topic string) string
}

// Map knows the sets of a router: 0 is what no set names, i the set at place i-1 of the router's. It is never changed.
type Map struct {
	router topology.Router
	where  []string
}

// NewMap returns the sets of a router, the same for all its instances.
func NewMap(r topology.Router) *Map {
	m := &Map{router: r, where: []string{fmt.Sprintf("what no set names, at the slots %s of %s", cmp.Or(r.SNI, r.Slots.String()), r.Advertise)}}
	for _, s := range r.Sets {
		m.where = append(m.where, fmt.Sprintf("set %s, at the slots %s of %s", strconv.Quote(s.Name), cmp.Or(s.SNI, s.Slots.String()), r.Advertise))
	}
	return m
}

// Len is how many sets there are, what no set names being one.
func (m *Map) Len() int { return 1 + len(m.router.Sets) }

// OfTopic is the set of a topic: the first that names it.
func (m *Map) OfTopic(name string) int {
	for i, s := range m.router.Sets {
		if s.Topics.Match(name) {
			return i + 1
		}
	}
	return 0
}

// OfGroup is the set of a group, or of a transactional id, which is that of a group of the same name: Kafka Streams calls both by the application.
func (m *Map) OfGroup(id string) int {
	for i, s := range m.router.Sets {
		if s.Groups.Match(id) {
			return i + 1
		}
	}
	return 0
}

// Of returns what a connection to the slots of a set has.
func (m *Map) Of(set int) Here { return own{m, set} }

type own struct {
	m   *Map
	set int
}

func (o own) Topic(name string) bool    { return o.m.OfTopic(name) == o.set }
func (o own) Group(id string) bool      { return o.m.OfGroup(id) == o.set }
func (o own) Where(topic string) string { return o.m.where[o.m.OfTopic(topic)] }
