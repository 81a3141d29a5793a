package router

import (
	"context"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// SetInstances says anew which instances clients are sent to: those of the same name in the same data center, this one too. They count from
// the next picture on, which is within Config.Every.
func (r *Router) SetInstances(instances []topology.Router) { r.others.list.Store(&instances) }

// ending ends a connection at a moment of its own after ctx has ended, so that its clients do not all come back to the others at once. stop
// is for a connection that ended before.
func (r *Router) ending(ctx, connection context.Context, end func()) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		_ = sleep(connection, time.Duration(r.deps.Rand()*float64(r.cfg.Drain))) // it may end by itself, which is as good
		end()
	})
}
