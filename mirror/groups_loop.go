package mirror

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// groupLoop keeps the positions of groups alike until ctx ends, as long as the link has any to keep.
func (l *Link) groupLoop(ctx context.Context) error {
	for {
		if l.keepsGroups() && l.maySync() {
			l.keepGroups(ctx)
		}
		if sleep(ctx, l.cfg.RefreshEvery) != nil {
			return nil
		}
	}
}

func (l *Link) keepsGroups() bool { return len(l.terms().Groups) > 0 }

// RestGroups has the links of this node leave positions of groups alone for a while: who moves groups to another cluster sets them, and what a link has just asked may be older.
func (s *Set) RestGroups(d time.Duration) {
	s.shared.groupsRest.Store(s.shared.now().Add(d).UnixNano())
}

// groupsRest reports whether positions are left alone.
func (l *Link) groupsRest() bool { return l.now().UnixNano() < l.shared.groupsRest.Load() }

// errGroupsRest is why a position is not set that was just about to be.
var errGroupsRest = errors.New("a router moves to another cluster with its groups")

// keepGroups does so until ctx ends or there are none to keep any more.
func (l *Link) keepGroups(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := newGroupKeeper(l, l.clusterEnds())
	var heard sync.WaitGroup
	for _, name := range k.names {
		l.metrics.groupBegin(name)
	}
	for end, c := range []*broker.Cluster{l.from, l.to} {
		heard.Go(func() {
			newEar(l, c, k.books[end], groupNames{l, end == atTargetEnd}).run(ctx)
		})
	}
	k.run(ctx, func() bool { return !l.keepsGroups() })
	l.groupsPending.Store(nil)
	cancel()
	heard.Wait()
}
