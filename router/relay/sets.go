package relay

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/sets"
)

// mostOwn bounds the topics that a connection remembers to be of its own set.
const mostOwn = 10_000

// ownTopic ends a request for a topic of another set before its last byte has left, so that the home never sees it whole. The client connects again and
// asks who leads the topic now.
func (r *Relay) ownTopic(name []byte) error {
	if r.own[string(name)] {
		return nil
	}
	topic := string(name)
	if !r.sets.Topic(topic) {
		return fmt.Errorf("topic %s is of %s: %w", topic, r.sets.Where(topic), ErrElsewhere)
	}
	if len(r.own) < mostOwn {
		r.own[topic] = true
	}
	return nil
}

// lookAt does with a request that may be about other sets what is to be done: refuse it, take a part out of it, or only forward it.
func (r *Relay) lookAt(ctx context.Context, h frame.Request, o owed, row apis.Row) error {
	in, body, give, err := r.request(ctx, h, r.cfg.Limits.Collected)
	if err != nil {
		return err
	}
	defer give()
	return r.consider(ctx, h, o, row, in, body)
}

// consider is lookAt of a request that was collected.
func (r *Relay) consider(ctx context.Context, h frame.Request, o owed, row apis.Row, in, body []byte) error {
	m := kmsg.RequestForKey(h.Key)
	m.SetVersion(h.Version)
	if err := m.ReadFrom(body); err != nil {
		return failed(Client, "read a request", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if refused := sets.Refuse(m, r.sets); refused != nil {
		return r.answerHere(h, refused)
	}
	o.edit = r.editFor(ctx, m)
	if _, isMetadata := m.(*kmsg.MetadataRequest); isMetadata {
		body = m.AppendTo(nil) // without what is of other sets
	}
	return r.sendOn(h, o, row, in, body)
}

// editFor is what is to be done with the answer to a request, nil for nothing. What is of other sets is asked for only when the home's answer is
// there, so that it is as new.
func (r *Relay) editFor(ctx context.Context, m kmsg.Request) func(kmsg.Response) {
	switch m := m.(type) {
	case *kmsg.MetadataRequest:
		others, all := sets.Split(m, r.sets)
		if len(others) == 0 && !all {
			return nil
		}
		return func(resp kmsg.Response) {
			sets.Join(resp.(*kmsg.MetadataResponse), r.sets, r.sets.Topics(ctx, others))
		}
	case *kmsg.ListGroupsRequest:
		return func(resp kmsg.Response) { sets.OwnGroups(resp.(*kmsg.ListGroupsResponse), r.sets) }
	case *kmsg.FindCoordinatorRequest:
		return r.coordinators(ctx, m)
	}
	return nil
}

// coordinators puts those of other sets in the place of what the home says of them.
func (r *Relay) coordinators(ctx context.Context, m *kmsg.FindCoordinatorRequest) func(kmsg.Response) {
	kind := m.CoordinatorType
	if m.Version < 4 {
		key := m.CoordinatorKey
		if r.sets.Group(key) {
			return nil
		}
		return func(resp kmsg.Response) {
			c := resp.(*kmsg.FindCoordinatorResponse)
			s, code := r.sets.Coordinator(ctx, kind, key)
			c.ErrorCode, c.ErrorMessage, c.NodeID, c.Host, c.Port = code, nil, s.ID, s.Host, s.Port
		}
	}
	return func(resp kmsg.Response) {
		all := resp.(*kmsg.FindCoordinatorResponse).Coordinators
		for i := range all {
			if c := &all[i]; !r.sets.Group(c.Key) {
				s, code := r.sets.Coordinator(ctx, kind, c.Key)
				c.ErrorCode, c.ErrorMessage, c.NodeID, c.Host, c.Port = code, nil, s.ID, s.Host, s.Port
			}
		}
	}
}
