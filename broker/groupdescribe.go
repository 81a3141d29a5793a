package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// describesAtOnce is how many groups one request describes: what a broker tells of each member is a kilobyte and more.
const describesAtOnce = 200

// DescribeGroups tells the type, state and number of members of groups, by id. A group that is not there is [GroupDead]. Those of which
// the cluster did not tell are missing, and joined in the error.
func (c *Cluster) DescribeGroups(ctx context.Context, ids ...string) (map[string]Group, error) {
	d := described{c: c, groups: make(map[string]Group)}
	failed := make(map[string]error)
	// Each type has a request of its own, and to that of another type a group is not there. Only kfake's for classic groups answers for
	// others too, without their members.
	for _, ask := range []groupAsk{d.consumer(), d.classic(), d.share(), d.streams()} {
		maps.Copy(failed, c.atCoordinators(ctx, ids, describesAtOnce, ask))
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
			_, lost := failed[id]
			g, told := d.groups[id]
			return lost || told && g.State != GroupDead
		})
		if len(ids) == 0 {
			break
		}
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, c.groupError(ctx, "describe group "+id, failed[id], id, "DESCRIBE", "DESCRIBE"))
		delete(d.groups, id)
	}
	return d.groups, errors.Join(errs...)
}

// described are groups as they are told one after the other.
type described struct {
	c *Cluster

	mu     sync.Mutex
	groups map[string]Group
}

// note takes an answer about one group, and returns what is wrong with it; a group that is not there is not.
func (d *described) note(g Group, code int16, refused map[string]error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch err := codeError(code); {
	case code == groupIDNotFound || err == nil && g.State == GroupDead:
		d.groups[g.ID] = Group{ID: g.ID, State: GroupDead, Coordinator: g.Coordinator}
	case err != nil:
		refused[g.ID] = err
	default:
		d.groups[g.ID] = g
	}
}

// groupIDNotFound is the code of a group that is not there, or not of the type that the request is for.
const groupIDNotFound = 69

// all returns what is wrong, beside what was said of single groups, with an answer that has to tell of each of them.
func (d *described) all(groups []string, refused map[string]error) map[string]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range groups {
		_, told := d.groups[id]
		if _, wrong := refused[id]; !told && !wrong {
			refused[id] = protocolErrorf("no answer for the group")
		}
	}
	return refused
}

// describeBy is how groups of one type are asked for.
func describeBy[A kmsg.Response](d *described, of GroupType, request func(groups []string) kmsg.Request, tell func(resp A, note func(g Group, code int16))) groupAsk {
	return func(ctx context.Context, b coordinator, groups []string) (map[string]error, error) {
		req := request(groups)
		if of != GroupClassic {
			if known, err := knows(ctx, b.Broker, req.Key()); err != nil || !known {
				return nil, err
			}
		}
		resp, err := askOf[A](ctx, b.Broker, req)
		if err != nil {
			return nil, err
		}
		refused := make(map[string]error)
		tell(resp, func(g Group, code int16) {
			g.Type, g.Coordinator = of, b.id
			d.note(g, code, refused)
		})
		return d.all(groups, refused), nil
	}
}

func (d *described) classic() groupAsk {
	return describeBy(d, GroupClassic, func(groups []string) kmsg.Request {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = groups
		return req
	}, func(resp *kmsg.DescribeGroupsResponse, note func(Group, int16)) {
		for _, g := range resp.Groups {
			note(Group{ID: g.Group, Protocol: g.ProtocolType, State: g.State, Members: len(g.Members)}, g.ErrorCode)
		}
	})
}

func (d *described) consumer() groupAsk {
	return describeBy(d, GroupConsumer, func(groups []string) kmsg.Request {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = groups
		return req
	}, func(resp *kmsg.ConsumerGroupDescribeResponse, note func(Group, int16)) {
		for _, g := range resp.Groups {
			note(Group{ID: g.Group, Protocol: "consumer", State: g.State, Members: len(g.Members)}, g.ErrorCode)
		}
	})
}

func (d *described) share() groupAsk {
	return describeBy(d, GroupShare, func(groups []string) kmsg.Request {
		req := kmsg.NewPtrShareGroupDescribeRequest()
		req.GroupIDs = groups
		return req
	}, func(resp *kmsg.ShareGroupDescribeResponse, note func(Group, int16)) {
		for _, g := range resp.Groups {
			note(Group{ID: g.GroupID, Protocol: "share", State: g.GroupState, Members: len(g.Members)}, g.ErrorCode)
		}
	})
}

func (d *described) streams() groupAsk {
	return describeBy(d, GroupStreams, func(groups []string) kmsg.Request {
		req := kmsg.NewPtrStreamsGroupDescribeRequest()
		req.Groups = groups
		return req
	}, func(resp *kmsg.StreamsGroupDescribeResponse, note func(Group, int16)) {
		for _, g := range resp.Groups {
			note(Group{ID: g.Group, Protocol: "streams", State: g.State, Members: len(g.Members)}, g.ErrorCode)
		}
	})
}
