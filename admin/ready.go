package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// The verdicts of Ready.
const (
	// ReadyYes says that nothing stands against a planned switch.
	ReadyYes = "ready"
	// ReadyWarning says that it may begin, and that somebody should read the checks.
	ReadyWarning = "warning"
	// ReadyNo says that it may not begin.
	ReadyNo = "not-ready"
)

// mostReady bounds the partitions and groups that are told one by one.
const mostReady = 100

// Ready implements the call of that name.
func (s *service) Ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	res, err := s.ready(ctx, req)
	if err != nil {
		return nil, s.code("Ready", err)
	}
	res.Name, res.Set, res.Node, res.At, res.Verdict = req.GetName(), req.GetSet(), s.self, timestamppb.New(s.now()), readyVerdict(res.GetChecks())
	return res, nil
}

func (s *service) ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	long := func(field, value string) *FieldError {
		return when(len(value) > maxName, field, "has %d bytes, the limit is %d", len(value), maxName)
	}
	err := fields(missing("name", req.GetName(), "name a router or a link; isthmus router status and isthmus status list them"), missing("to", req.GetTo(), "name the cluster that is to be gone to"),
		long("name", req.GetName()), long("set", req.GetSet()), long("to", req.GetTo()), long("canary", req.GetCanary()))
	if err != nil {
		return nil, err
	}
	homes, err := s.node.Homes(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if len(homes.Sets) == 0 {
		return s.readyLink(ctx, req)
	}
	if _, err := homes.find(&adminpb.SwitchRequest{Router: req.GetName(), Set: req.GetSet(), To: req.GetTo(), Kind: adminpb.SwitchKind_SWITCH_KIND_PLANNED}); err != nil {
		return nil, err
	}
	res, err := s.node.Ready(ctx, req)
	if err != nil {
		return nil, err
	}
	st, err := s.status(ctx, "", true)
	if err != nil {
		return nil, err
	}
	mirrorsSay(res, st)
	if drills, err := s.node.Drills(ctx, req.GetName()); err == nil { // without them the last switches tell
		drillsSay(res, req.GetSet(), drills)
	}
	return res, nil
}

// readyLink tells of a link, by what the nodes that mirror say.
func (s *service) readyLink(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	st, err := s.status(ctx, "", true)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(st.GetLinks(), func(l *adminpb.Link) bool { return l.GetName() == req.GetName() })
	if i < 0 {
		return nil, fmt.Errorf("router or link %.100q: %w", req.GetName(), ErrUnknown)
	}
	link := st.GetLinks()[i]
	err = fields(when(req.GetTo() != link.GetTo(), "to", "link %s goes from %s to %s, and not to %.100q", link.GetName(), link.GetFrom(), link.GetTo(), req.GetTo()),
		when(req.GetSet() != "", "set", "%s is a link, which has no sets", link.GetName()), when(req.GetCanary() != "", "canary", "%s is a link; drills are of routers", link.GetName()))
	if err != nil {
		return nil, err
	}
	groups, err := s.linkGroups(ctx, link.GetName(), "")
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		groups = &adminpb.LinkGroups{Keeps: true, Trouble: valid(err.Error())}
	}
	return linkReady(link, st, groups), nil
}

// linkReady is what is to be known of a link before clients move along it. It is pure.
func linkReady(link *adminpb.Link, st *adminpb.StatusResponse, groups *adminpb.LinkGroups) *adminpb.ReadyResponse {
	res := &adminpb.ReadyResponse{Link: true, From: link.GetFrom(), To: link.GetTo(), Loss: &adminpb.ReadyLoss{Seconds: -1}}
	check := func(name string, ok, warning bool, format string, args ...any) {
		res.Checks = append(res.Checks, &adminpb.SwitchCheck{Name: name, Ok: ok, Warning: ok && warning, Text: fmt.Sprintf(format, args...)})
	}
	if link.GetUp() {
		check("link", true, false, "both ends answer")
	} else {
		check("link", false, false, "an end cannot be reached: %s", link.GetTrouble())
	}
	for _, f := range link.GetFlows() {
		for _, p := range f.GetPartitions() {
			res.Loss.Partitions++
			if p.GetLagRecords() > 0 {
				res.Loss.List = append(res.Loss.List, &adminpb.ReadyPartition{Topic: f.GetTopic(), Partition: p.GetPartition(), Records: p.GetLagRecords(), Seconds: p.GetLagSeconds(), Reason: notCopied(p)})
			}
		}
	}
	sumLoss(res.Loss)
	stopped := stoppedOf(link)
	check("partitions", len(stopped) == 0, false, "%s", cmp.Or(notRunning(stopped), fmt.Sprintf("all %d are mirrored", res.Loss.Partitions)))
	lag := "all is mirrored"
	if n := res.Loss.GetRecords(); n > 0 {
		lag = fmt.Sprintf("%d records are not mirrored yet: stop the producers, and wait until all are", n)
	}
	check("lag", true, res.Loss.GetRecords() > 0, "%s", lag)
	if silent := st.GetUnanswered(); len(silent) > 0 {
		check("nodes", false, false, "node %s did not answer: what it mirrors is not known", silent[0].GetNode())
	}
	check("guarantee", true, link.GetGuarantee() != adminpb.Guarantee_GUARANTEE_EXACTLY_ONCE, "%s", cmp.Or(link.GetGuaranteeWhy(), "each record is at the target once"))
	linkGroupsReady(res, groups, check)
	way := fmt.Sprintf("no link goes from %s to %s: what is written there does not come back", link.GetTo(), link.GetFrom())
	back := slices.ContainsFunc(st.GetLinks(), func(l *adminpb.Link) bool { return l.GetFrom() == link.GetTo() && l.GetTo() == link.GetFrom() })
	if back {
		way = "a link goes back"
	}
	check("way back", true, !back, "%s", way)
	return res
}

// linkGroupsReady tells of the groups of a link.
func linkGroupsReady(res *adminpb.ReadyResponse, groups *adminpb.LinkGroups, check func(name string, ok, warning bool, format string, args ...any)) {
	res.Groups = &adminpb.ReadyGroups{Trouble: groups.GetTrouble()}
	if !groups.GetKeeps() {
		check("groups", true, true, "the link keeps no positions of groups: give its [[link]] groups, or consumers begin where their own setting says")
		return
	}
	by := make(map[string]*adminpb.ReadyGroup)
	var names []string
	for _, p := range groups.GetPositions() {
		g := by[p.GetGroup()]
		if g == nil {
			g = &adminpb.ReadyGroup{Group: p.GetGroup()}
			by[p.GetGroup()] = g
			names = append(names, p.GetGroup())
		}
		switch {
		case p.GetSource().GetOffset() < 0:
		case p.GetTarget().GetOffset() < 0:
			g.Missing++
		default:
			g.Reread += max(0, p.GetReread())
		}
	}
	res.Groups.Groups = int32(len(names))
	for _, name := range names {
		if g := by[name]; g.GetReread() > 0 || g.GetMissing() > 0 {
			res.Groups.Behind++
			res.Groups.Reread += g.GetReread()
			res.Groups.List = append(res.Groups.List, g)
		}
	}
	slices.SortStableFunc(res.Groups.List, func(a, b *adminpb.ReadyGroup) int {
		return cmp.Or(cmp.Compare(b.GetMissing(), a.GetMissing()), cmp.Compare(b.GetReread(), a.GetReread()))
	})
	res.Groups.List = res.Groups.List[:min(mostReady, len(res.Groups.List))]
	check("groups", groups.GetTrouble() == "", res.Groups.Behind > 0, "%s", cmp.Or(groups.GetTrouble(), fmt.Sprintf("%d of %d are behind at %s", res.Groups.Behind, res.Groups.Groups, res.GetTo())))
}

// mirrorsSay adds to what a router's switch would find how old it is that is not mirrored, and why it is not, as the nodes say that mirror. It is pure.
func mirrorsSay(res *adminpb.ReadyResponse, st *adminpb.StatusResponse) {
	type at struct {
		topic     string
		partition int32
	}
	said := make(map[at]*adminpb.Partition)
	var stopped []string
	for _, l := range st.GetLinks() {
		if l.GetFrom() != res.GetFrom() || l.GetTo() != res.GetTo() {
			continue
		}
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				said[at{f.GetTopic(), p.GetPartition()}] = p
			}
		}
	}
	for _, b := range res.GetLoss().GetList() {
		if p := said[at{b.GetTopic(), b.GetPartition()}]; p != nil {
			b.Seconds, b.Reason = p.GetLagSeconds(), notCopied(p)
			if b.Reason != "" {
				stopped = append(stopped, fmt.Sprintf("%s:%d %s", b.GetTopic(), b.GetPartition(), b.GetReason()))
			}
		}
	}
	if len(stopped) > 0 {
		res.Checks = append(res.Checks, &adminpb.SwitchCheck{Name: "partitions", Text: notRunning(stopped)})
	}
	if loss := res.GetLoss(); loss != nil {
		loss.Seconds = oldest(loss)
		loss.Trouble = cmp.Or(loss.GetTrouble(), unansweredText(st.GetUnanswered()))
	}
}

// lastDrills is how many drills tell for how long clients would wait.
const lastDrills = 5

// drillsSay tells for how long clients could not write by the last drills of a set that were planned switches and passed: a canary saw that from outside. It is pure.
func drillsSay(res *adminpb.ReadyResponse, set string, drills []*adminpb.Drill) {
	n, longest := 0, 0.0
	for _, d := range slices.Backward(drills) {
		if d.GetSet() == set && d.GetVerdict() == "pass" && (d.GetMode() == "switchover" || d.GetMode() == "failback") && n < lastDrills {
			n, longest = n+1, max(longest, d.GetRtoSeconds())
		}
	}
	if n > 0 {
		res.Time = &adminpb.ReadyTime{Seconds: longest, By: fmt.Sprintf("the longest of the last %d planned drills of it, as their canary saw it", n)}
	}
}

// oldest is the age of the oldest record of a loss; -1 where it is not known of any.
func oldest(loss *adminpb.ReadyLoss) float64 {
	if loss.GetRecords() == 0 {
		return 0
	}
	age := -1.0
	for _, b := range loss.GetList() {
		age = max(age, b.GetSeconds())
	}
	return age
}

// sumLoss adds a list up and orders it.
func sumLoss(loss *adminpb.ReadyLoss) {
	for _, b := range loss.GetList() {
		loss.Records += b.GetRecords()
	}
	loss.Behind, loss.Seconds = int32(len(loss.GetList())), oldest(loss)
	slices.SortStableFunc(loss.List, func(a, b *adminpb.ReadyPartition) int { return cmp.Compare(b.GetRecords(), a.GetRecords()) })
	loss.List = loss.List[:min(mostReady, len(loss.List))]
}

// stoppedOf are the partitions of a link that are not mirrored.
func stoppedOf(l *adminpb.Link) (out []string) {
	for _, f := range l.GetFlows() {
		if f.GetBlocked() != "" {
			out = append(out, f.GetTopic()+" "+f.GetBlocked())
		}
		for _, p := range f.GetPartitions() {
			if why := notCopied(p); why != "" {
				out = append(out, fmt.Sprintf("%s:%d %s", f.GetTopic(), p.GetPartition(), why))
			}
		}
	}
	return out
}

// notCopied is why a partition is not mirrored now; empty: it is.
func notCopied(p *adminpb.Partition) string {
	switch p.GetState() {
	case adminpb.State_STATE_RUNNING, adminpb.State_STATE_FINDING, adminpb.State_STATE_DRAINING, adminpb.State_STATE_YIELDED:
		return ""
	}
	return Name(p.GetState()) + ": " + cmp.Or(p.GetReason(), "it does not say why")
}

// notRunning names some of those that are not mirrored; empty: all are.
func notRunning(stopped []string) string {
	if len(stopped) == 0 {
		return ""
	}
	return "not mirrored: " + list(stopped)
}

func unansweredText(silent []*adminpb.Unanswered) string {
	if len(silent) == 0 {
		return ""
	}
	return fmt.Sprintf("node %s did not answer: %s", silent[0].GetNode(), silent[0].GetTrouble())
}

// readyVerdict is what checks mean together.
func readyVerdict(checks []*adminpb.SwitchCheck) string {
	verdict := ReadyYes
	for _, c := range checks {
		switch {
		case !c.GetOk():
			return ReadyNo
		case c.GetWarning():
			verdict = ReadyWarning
		}
	}
	return verdict
}
