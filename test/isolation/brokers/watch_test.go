package brokers

import (
	"context"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/node"
)

// watch waits for something to show, also while rates are measured, and knows how soon it did.
type watch struct {
	l     *lab
	what  string
	since time.Time
	most  time.Duration
	shown func(context.Context, map[flow]*adminpb.Partition) error
	after time.Duration // since then; 0: not yet
}

// watch begins to wait for what shown says, which has to be so within a time from now on.
func (l *lab) watch(what string, most time.Duration, shown func(context.Context, map[flow]*adminpb.Partition) error) *watch {
	return &watch{l: l, what: what, since: time.Now(), most: most + busy(), shown: shown}
}

// see takes a look.
func (w *watch) see(ctx context.Context, now map[flow]*adminpb.Partition) error {
	if w.after > 0 {
		return nil
	}
	err := w.shown(ctx, now)
	if err == nil {
		w.after = time.Since(w.since)
	}
	return err
}

// end waits for the rest of the time, and fails the test if it was too long.
func (w *watch) end() {
	w.l.t.Helper()
	node.Until(w.l.t, max(time.Until(w.since.Add(w.most)), 5*time.Second), w.what, func(ctx context.Context) error {
		now, err := w.l.look(ctx)
		if err != nil {
			return err
		}
		return w.see(ctx, now)
	})
	w.l.t.Logf("%s after %v", w.what, w.after.Round(10*time.Millisecond))
	if w.after > w.most {
		w.l.t.Errorf("%s after %v, want %v at most", w.what, w.after, w.most)
	}
}
