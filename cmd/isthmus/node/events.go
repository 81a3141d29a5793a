package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// witness tells watchers what became different since it looked last.
type witness struct {
	admin.Events
	self    string
	members map[string]gossip.Member
	owners  map[pumpName]string
	states  map[pumpName]mirror.State
	seen    map[string]gossip.Time // version of each setting
	first   bool
}

type pumpName struct {
	link, topic string
	partition   int32
}

func newWitness(self string) *witness { return &witness{self: self, first: true} }

// look compares what is now with what was. Only one goroutine may call it.
func (w *witness) look(view *gossip.View, settings []gossip.Value, links []mirror.LinkStatus) {
	w.lookAtMembers(view)
	w.lookAtSettings(settings)
	w.lookAtPumps(view, links)
	w.first = false
}

func (w *witness) tell(kind adminpb.EventKind, fill func(*adminpb.Event)) {
	if w.first {
		return // everything is new then, and nothing has happened
	}
	e := &adminpb.Event{Kind: kind, At: moment(time.Now()), Partition: -1}
	fill(e)
	w.Publish(e)
}

func (w *witness) lookAtMembers(view *gossip.View) {
	now := make(map[string]gossip.Member, len(view.Members))
	for _, m := range view.Members {
		now[m.Name] = m
		for _, text := range memberNews(w.members[m.Name], m) {
			w.tell(adminpb.EventKind_EVENT_KIND_MEMBER, func(e *adminpb.Event) {
				e.Node, e.Status, e.Text = m.Name, memberStatuses[m.Status], text
			})
		}
	}
	w.members = now
}

// memberNews says what is new of a member.
func memberNews(old, now gossip.Member) (news []string) {
	say := func(format string, args ...any) {
		news = append(news, "node "+now.Name+" "+fmt.Sprintf(format, args...))
	}
	switch {
	case old.Status != now.Status:
		say("is %s", now.Status)
	case now.Status == gossip.Alive && old.Report.Started != 0 && old.Report.Started != now.Report.Started:
		say("was started again")
	}
	if old.Report.Ready != now.Report.Ready && now.Report.Started != 0 {
		say("%s", map[bool]string{true: "takes work", false: "takes no work"}[now.Report.Ready])
	}
	if !old.Report.Draining && now.Report.Draining {
		say("gives its work away")
	}
	for _, cluster := range slices.Sorted(maps.Keys(now.Report.Reach)) {
		r, was := now.Report.Reach[cluster], old.Report.Reach[cluster]
		switch up := r.Reads && r.Writes; {
		case up == (was.Reads && was.Writes):
		case up:
			say("reaches cluster %s", cluster)
		default:
			say("does not reach cluster %s: %s", cluster, cmp.Or(r.Trouble, "not measured yet"))
		}
	}
	return news
}

func (w *witness) lookAtSettings(settings []gossip.Value) {
	now := make(map[string]gossip.Time, len(settings))
	for _, v := range settings {
		now[v.Key] = v.Version
		if w.seen[v.Key] == v.Version {
			continue
		}
		w.tell(adminpb.EventKind_EVENT_KIND_SETTING, func(e *adminpb.Event) {
			e.Key, e.Value, e.Version = v.Key, text(v.Value), v.Version.String()
			verb := "set to " + text(v.Value)
			if v.Deleted {
				verb = "unset"
			}
			e.Text = fmt.Sprintf("%s was %s by %s", v.Key, verb, cmp.Or(v.Author, "somebody"))
			if v.Reason != "" {
				e.Text += ": " + v.Reason
			}
		})
	}
	w.seen = now
}

func (w *witness) lookAtPumps(view *gossip.View, links []mirror.LinkStatus) {
	owners, states := make(map[pumpName]string), make(map[pumpName]mirror.State)
	for _, l := range links {
		for _, f := range l.Flows {
			for _, p := range f.Pumps {
				name := pumpName{l.Name, f.Topic, p.Partition}
				owners[name] = view.Owner(gossip.Work{From: l.From, To: l.To, Topic: f.Topic, Partition: p.Partition}).Node
				states[name] = p.State
				w.pumpNews(name, owners[name], p)
			}
		}
	}
	w.owners, w.states = owners, states
}

func (w *witness) pumpNews(name pumpName, owner string, p mirror.PumpStatus) {
	where := func(e *adminpb.Event) { e.Link, e.Topic, e.Partition = name.link, name.topic, name.partition }
	if old, known := w.owners[name]; known && old != owner {
		w.tell(adminpb.EventKind_EVENT_KIND_OWNER, func(e *adminpb.Event) {
			where(e)
			e.Node, e.Text = owner, fmt.Sprintf("%s %s:%d goes from %s to %s", name.link, name.topic, name.partition, cmp.Or(old, "nobody"), cmp.Or(owner, "nobody"))
		})
	}
	if old := w.states[name]; old != p.State {
		w.tell(adminpb.EventKind_EVENT_KIND_STATE, func(e *adminpb.Event) {
			where(e)
			e.Node, e.State = w.self, states[p.State]
			e.Text = fmt.Sprintf("%s %s:%d is %s on %s", name.link, name.topic, name.partition, p.State, w.self)
			if p.Reason != "" {
				e.Text += ": " + p.Reason
			}
		})
	}
}
