package admin

import (
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// recheckEvery is how often a watch proves again that its caller may: its token may be gone by now.
const recheckEvery = 10 * time.Second

// Watch implements the call of that name.
func (s *service) Watch(req *adminpb.WatchRequest, stream grpc.ServerStreamingServer[adminpb.Event]) error {
	ctx := stream.Context()
	who := callerOf(ctx)
	w := s.events.add(func(e *adminpb.Event) bool { return wanted(req, e) && who.seesEvent(e) })
	defer s.events.remove(w)
	if err := stream.SendHeader(nil); err != nil { // the reader knows now that it misses nothing from here on
		return err
	}
	ticker := time.NewTicker(recheckEvery)
	defer ticker.Stop()
	for {
		for _, e := range w.take() {
			if err := stream.Send(e); err != nil {
				return err // of the stream, with its code
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return s.code("Watch", ctx.Err())
		case <-ticker.C:
			if err := stillMay(ctx); err != nil {
				return withCode(err)
			}
		case <-s.ending:
			return s.code("Watch", ErrNotReady)
		}
	}
}

func wanted(req *adminpb.WatchRequest, e *adminpb.Event) bool {
	return (len(req.GetKinds()) == 0 || slices.Contains(req.GetKinds(), e.GetKind())) &&
		(req.GetLink() == "" || e.GetLink() == "" || e.GetLink() == req.GetLink())
}

// seesEvent reports whether a caller may know of an event.
func (c caller) seesEvent(e *adminpb.Event) bool {
	switch {
	case !c.scoped() || e.GetKind() == adminpb.EventKind_EVENT_KIND_MEMBER:
		return true
	case e.GetKind() == adminpb.EventKind_EVENT_KIND_SETTING:
		return c.seesKey(e.GetKey())
	}
	return e.GetTopic() != "" && c.sees(e.GetTopic())
}
