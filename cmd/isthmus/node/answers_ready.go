package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/coordinator"
)

// maxReady bounds the partitions, and the groups, that are told one by one.
const maxReady = 100

// Ready implements [admin.Node].
func (a *answers) Ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	topo := a.node.fabric.runs()
	if topo == nil {
		return nil, errors.New("the running configuration is not known yet; try again")
	}
	c, end, err := a.node.coordinatorBy(topo, req.GetName(), a.node.server.FlushRouters) // it may be asked all the time, and links are not to rest for that
	if err != nil {
		return nil, err
	}
	defer end()
	r, err := c.Ready(ctx, req.GetSet(), req.GetTo(), req.GetCanary())
	if err != nil {
		return nil, err
	}
	return readyOf(r), nil
}

// readyOf turns what was found into a message.
func readyOf(r coordinator.Readiness) *adminpb.ReadyResponse {
	out := &adminpb.ReadyResponse{From: r.From, To: r.To, Generation: r.Generation, Checks: checksOf(r.Checks), LostChecks: checksOf(r.Lost),
		Loss: lossOf(r.Tail), Groups: readyGroups(r.Groups)}
	if len(r.Took) > 0 {
		worst := slices.Max(r.Took)
		out.Time = &adminpb.ReadyTime{Seconds: worst.Seconds(), By: fmt.Sprintf("the longest of the last %d planned switches of it, checks and verification included", len(r.Took))}
		return out
	}
	out.Time = estimate(int(out.GetGroups().GetGroups()))
	return out
}

// What a switch was seen to take on one machine, without latency, as a first guess: for all steps, and for each group whose members are taken out and whose position is set.
const (
	stepsTake = 500 * time.Millisecond
	groupTake = 5 * time.Millisecond
)

// estimate is for how long clients could not write where no switch is known.
func estimate(groups int) *adminpb.ReadyTime {
	d := stepsTake + time.Duration(groups)*groupTake
	return &adminpb.ReadyTime{Seconds: d.Seconds(), Estimate: true,
		By: fmt.Sprintf("an estimate: %v for the steps and %v for each of %d groups; no switch of it is known", stepsTake, groupTake, groups)}
}

func lossOf(t coordinator.Tail) *adminpb.ReadyLoss {
	out := &adminpb.ReadyLoss{Partitions: int32(t.Partitions), Behind: int32(len(t.Behind)), Seconds: -1}
	if t.Err != nil {
		out.Records, out.Trouble = -1, someLines(t.Err.Error())
		return out
	}
	for i, b := range t.Behind {
		out.Records += b.Records
		if i < maxReady {
			out.List = append(out.List, &adminpb.ReadyPartition{Topic: b.Topic, Partition: b.Partition, Records: b.Records, Seconds: -1})
		}
	}
	return out
}

func readyGroups(g coordinator.GroupsBehind) *adminpb.ReadyGroups {
	out := &adminpb.ReadyGroups{Groups: int32(g.Groups), Behind: int32(len(g.Behind))}
	if g.Err != nil {
		out.Trouble = someLines(g.Err.Error())
	}
	for i, b := range g.Behind {
		out.Reread += b.Reread
		if i < maxReady {
			out.List = append(out.List, &adminpb.ReadyGroup{Group: text([]byte(b.Group)), Reread: b.Reread, Missing: int32(b.Missing), Skipped: b.Skipped})
		}
	}
	return out
}
