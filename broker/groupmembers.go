package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// GroupMembers tells the ids of the members of classic groups, by group; one that is not there has none. Groups of which the cluster did not tell are missing, and joined in
// the error.
func (c *Cluster) GroupMembers(ctx context.Context, groups ...string) (map[string][]string, error) {
	var mu sync.Mutex
	out := make(map[string][]string)
	failed := c.atCoordinators(ctx, groups, describesAtOnce, func(ctx context.Context, b coordinator, groups []string) (map[string]error, error) {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = groups
		resp, err := askOf[*kmsg.DescribeGroupsResponse](ctx, b.Broker, req)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		refused := make(map[string]error)
		for _, g := range resp.Groups {
			if err := codeError(g.ErrorCode); err != nil && g.ErrorCode != groupIDNotFound {
				refused[g.Group] = err
				continue
			}
			ids := make([]string, len(g.Members))
			for i, m := range g.Members {
				ids[i] = m.MemberID
			}
			out[g.Group] = ids
		}
		for _, id := range groups {
			_, told := out[id]
			if _, wrong := refused[id]; !told && !wrong {
				refused[id] = protocolErrorf("no answer for the group")
			}
		}
		return refused, nil
	})
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, c.groupError(ctx, "describe group "+id, failed[id], id, "DESCRIBE", "DESCRIBE"))
		delete(out, id)
	}
	return out, errors.Join(errs...)
}
