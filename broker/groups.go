package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// GroupType is what the members of a group speak with their coordinator.
type GroupType string

// The types of groups. Only the first two have committed offsets of the kind that can be carried to another cluster; those of the last
// are its own, but are kept like theirs.
const (
	GroupClassic  GroupType = "classic"  // JoinGroup: all consumers before KIP-848, Connect, and whoever only commits
	GroupConsumer GroupType = "consumer" // KIP-848
	GroupShare    GroupType = "share"    // KIP-932: what it has read is in __share_group_state, not committed
	GroupStreams  GroupType = "streams"  // KIP-1071
)

// States of groups that decide something here. Others are Stable, PreparingRebalance, Assigning and the like.
const (
	GroupEmpty = "Empty" // no members; it may have offsets
	GroupDead  = "Dead"  // it is not there
)

// Group is a group as its coordinator sees it.
type Group struct {
	ID          string
	Type        GroupType // empty: a broker before Kafka 3.7 does not list types; all are classic there
	Protocol    string    // what a classic group is for: consumer, connect and the like; empty for one that only commits
	State       string    // as Kafka calls it; empty where a broker before Kafka 2.6 lists it
	Coordinator int32
	Members     int // -1 where it was not asked for: see DescribeGroups
}

// Classic reports whether its members speak JoinGroup, as those of a router's clients do, or it has none that speak anything else.
func (g Group) Classic() bool { return g.Type == GroupClassic || g.Type == "" }

// Active reports whether somebody may be at work in the group. Who reads without being a member and only commits is not seen.
func (g Group) Active() bool {
	return g.Members > 0 || g.State != GroupEmpty && g.State != GroupDead
}

// Groups lists the groups of the cluster, by id: those that the user may describe. Each broker tells of the groups that it coordinates;
// one that does not answer is named in the error, and the groups of the others are there.
func (c *Cluster) Groups(ctx context.Context) ([]Group, error) {
	m, err := c.metadataOfNone(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var (
		mu   sync.Mutex
		errs []error
		all  = make(map[string]Group)
		ask  errgroup.Group
	)
	ask.SetLimit(coordinatorsAtOnce)
	for _, id := range slices.Sorted(maps.Keys(m.Brokers)) {
		ask.Go(func() error {
			groups, err := c.groupsOf(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, c.failed(ctx, fmt.Sprintf("list the groups of broker %d", id), err))
			}
			for _, g := range groups {
				if other, twice := all[g.ID]; !twice || other.State == GroupDead { // on its way from one to the other
					all[g.ID] = g
				}
			}
			return nil
		})
	}
	_ = ask.Wait() // errors are in errs
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return slices.SortedFunc(maps.Values(all), func(a, b Group) int { return cmp.Compare(a.ID, b.ID) }), errors.Join(errs...)
}

// metadataOfNone asks who the brokers are.
func (c *Cluster) metadataOfNone(ctx context.Context) (Metadata, error) {
	req := kmsg.NewMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	return c.metadata(ctx, req)
}

// groupsOf lists what one broker coordinates.
func (c *Cluster) groupsOf(ctx context.Context, id int32) ([]Group, error) {
	var resp *kmsg.ListGroupsResponse
	var err error
	for range 2 { // the connection may be one of before a restart
		call, cancel := context.WithTimeoutCause(ctx, leaderPatience, errSilent)
		resp, err = askOf[*kmsg.ListGroupsResponse](call, c.client.Broker(int(id)), kmsg.NewPtrListGroupsRequest())
		if err != nil && call.Err() != nil {
			err = context.Cause(call)
		}
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, errSilent) || Classify(err) == Fatal {
			break
		}
	}
	if err == nil {
		err = codeError(resp.ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	groups := make([]Group, len(resp.Groups))
	for i, g := range resp.Groups {
		groups[i] = Group{ID: g.Group, Type: GroupType(strings.ToLower(g.GroupType)), Protocol: g.ProtocolType, State: g.GroupState, Coordinator: id, Members: -1}
		c.coordinators.put(g.Group, id)
	}
	return groups, nil
}
