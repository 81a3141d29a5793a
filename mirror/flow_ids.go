package mirror

// flowIDs are the producer ids under which a flow writes, by some routes. A topic that has another name on the target is written under ids of its own:
// others may become the same there.
type flowIDs struct {
	by      *routing
	ids     map[string]int64 // by origin
	origins map[int64]string // the reverse
}

// written are the flow's ids by the routes of now.
func (f *flow) written() *flowIDs {
	r := f.link.routing()
	if known := f.ids.Load(); known != nil && known.by == r {
		return known
	}
	from := f.link.spec.From
	w := &flowIDs{by: r, ids: r.ids[from], origins: r.origins[from]}
	if f.as != "" {
		w.ids, w.origins = make(map[string]int64), make(map[int64]string)
		for origin := range r.ids[from] {
			id := r.topo.NamedID(origin, from, f.topic)
			w.ids[origin], w.origins[id] = id, origin
		}
	}
	f.ids.Store(w)
	return w
}

// producerID is the id under which the flow writes what was produced at an origin.
func (f *flow) producerID(origin string) int64 { return f.written().ids[origin] }

// wroteThis reports whether a batch on the target is this flow's, and its origin.
func (f *flow) wroteThis(producerID int64) (origin string, ok bool) {
	origin, ok = f.written().origins[producerID]
	return origin, ok
}
