package admin

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// maxBacklog is how many events a reader of Watch may be behind before it loses some.
const maxBacklog = 1024

// Events hands what happens on a node to all that watch. The zero value is ready; it is safe for concurrent use.
type Events struct {
	mu       sync.Mutex
	watchers []*watcher
}

// watcher is one reader. Its oldest events are the ones that get lost: the newest tell how things are.
type watcher struct {
	want func(*adminpb.Event) bool
	wake chan struct{} // of one: there is something to take

	mu      sync.Mutex
	backlog []*adminpb.Event
	lost    int64 // before the first of backlog
}

// Publish tells all watchers of an event. It never waits for them. The event must not be changed afterwards.
func (e *Events) Publish(ev *adminpb.Event) {
	e.mu.Lock()
	watchers := e.watchers // replaced and never written to
	e.mu.Unlock()
	for _, w := range watchers {
		w.offer(ev)
	}
}

// Watched tells whether anybody would hear of an event.
func (e *Events) Watched() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.watchers) > 0
}

func (e *Events) add(want func(*adminpb.Event) bool) *watcher {
	w := &watcher{want: want, wake: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers = append(slices.Clone(e.watchers), w)
	return w
}

func (e *Events) remove(w *watcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers = slices.DeleteFunc(slices.Clone(e.watchers), func(x *watcher) bool { return x == w })
}

func (w *watcher) offer(ev *adminpb.Event) {
	if !w.want(ev) {
		return
	}
	w.mu.Lock()
	if len(w.backlog) == maxBacklog {
		// Half of them at once, so that this costs little for each event.
		w.lost += maxBacklog / 2
		w.backlog = slices.Clone(w.backlog[maxBacklog/2:])
	}
	w.backlog = append(w.backlog, ev)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// take returns what there is to send, with a word about what was lost at its place.
func (w *watcher) take() []*adminpb.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.backlog
	if w.lost > 0 && len(out) > 0 {
		gap := &adminpb.Event{Kind: adminpb.EventKind_EVENT_KIND_LOST, At: proto.CloneOf(out[0].GetAt()), Partition: -1, Lost: w.lost,
			Text: "this reader was too slow: events are missing here"}
		out = slices.Insert(out, 0, gap)
	}
	w.backlog, w.lost = nil, 0
	return out
}
