package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

const (
	// maxPause is the longest time after which a pause ends by itself. A longer one is forgotten by people too.
	maxPause = 366 * 24 * time.Hour
)

// write is one request that changes something.
type write struct {
	verb, target    string
	proposal        Proposal
	reason, confirm string
	dry             bool
	sure            bool     // needs confirm whatever it does
	also            []string // lines for people behind the plan's
}

// write does what all writes have in common: plan, rights, confirmation, change, audit.
func (s *service) write(ctx context.Context, w write) (*adminpb.WriteResponse, error) {
	res, d, err := s.attempt(ctx, w)
	switch {
	case errors.Is(err, ErrDenied):
		s.audit.refused(ctx, d, err)
	case err != nil || !w.dry:
		s.audit.done(ctx, d, err)
	}
	if err != nil {
		return nil, s.code(w.verb, err)
	}
	return res, nil
}

func (s *service) attempt(ctx context.Context, w write) (*adminpb.WriteResponse, deed, error) {
	who := callerOf(ctx)
	d := deed{who: who, verb: w.verb, target: w.target, why: w.reason}
	plan, err := s.node.Plan(ctx, w.proposal)
	if err != nil {
		return nil, d, err
	}
	entries := plan.Change.Entries
	touches := slices.Clone(plan.Touches)
	for _, e := range entries {
		if p, ok := parsePause(e.Key); ok {
			touches = append(touches, touchOf(p))
		}
	}
	if err := who.mayWrite(w.verb, entries, touches); err != nil {
		return nil, d, err
	}
	res := &adminpb.WriteResponse{Plan: append(slices.Clone(plan.Lines), w.also...), DryRun: w.dry}
	if st, err := s.node.Status(ctx); err == nil {
		res.Touched = touched(st.GetLinks(), touches)
	}
	if len(entries) == 0 {
		d.outcome, res.Note = "nothing to do", "nothing changes: it is like that already"
		return res, d, nil
	}
	token := confirmToken(w.verb, plan)
	if needs := w.sure || plan.Stops != "" || drains(entries); w.dry && needs {
		res.Confirm = token
	} else if !w.dry {
		if err := confirmed(w.confirm, token, needs, plan.Stops); err != nil {
			return nil, d, err
		}
	}
	if w.dry {
		return res, d, nil
	}
	change := plan.Change
	change.Author, change.Reason = who.name, w.reason
	written, err := s.node.Write(ctx, change)
	if err != nil {
		return nil, d, err
	}
	res.Version, res.Note = written.Version.String(), written.Note
	d.version, d.note = res.Version, res.Note
	return res, d, nil
}

// drains reports whether a change keeps work away from a node.
func drains(entries []gossip.Entry) bool {
	return slices.ContainsFunc(entries, func(e gossip.Entry) bool { return strings.HasPrefix(e.Key, "drain/") && !e.Deleted })
}

// touched lists the partitions that there are now of what is touched.
func touched(links []*adminpb.Link, touches []Touch) []*adminpb.Touched {
	var out []*adminpb.Touched
	for _, l := range links {
		var of []matcher
		for _, t := range touches {
			if t.Link == l.GetName() {
				of = append(of, newMatcher(t))
			}
		}
		if len(of) == 0 {
			continue
		}
		for _, f := range l.GetFlows() {
			one := &adminpb.Touched{Link: l.GetName(), Topic: f.GetTopic()}
			for _, p := range f.GetPartitions() {
				if slices.ContainsFunc(of, func(m matcher) bool { return m.match(f.GetTopic(), p.GetPartition()) }) {
					one.Partitions = append(one.Partitions, p.GetPartition())
				}
			}
			if len(one.GetPartitions()) > 0 {
				slices.Sort(one.Partitions)
				out = append(out, one)
			}
		}
	}
	slices.SortFunc(out, func(a, b *adminpb.Touched) int {
		return cmp.Or(cmp.Compare(a.GetLink(), b.GetLink()), cmp.Compare(a.GetTopic(), b.GetTopic()))
	})
	return out
}

// matcher is a touch whose patterns are read.
type matcher struct {
	topics     topology.Patterns // empty: all
	all        bool
	partitions []int32
}

func newMatcher(t Touch) matcher {
	m := matcher{all: len(t.Topics) == 0, partitions: t.Partitions}
	for _, text := range t.Topics {
		if p, err := topology.ParsePattern(text); err == nil {
			m.topics = append(m.topics, p)
		}
	}
	return m
}

func (m matcher) match(topic string, partition int32) bool {
	return (m.all || m.topics.Match(topic)) && (len(m.partitions) == 0 || slices.Contains(m.partitions, partition))
}

// Pause implements the call of that name.
func (s *service) Pause(ctx context.Context, req *adminpb.PauseRequest) (*adminpb.WriteResponse, error) {
	most := maxPause.Seconds()
	seconds := req.GetForSeconds()
	var until time.Time
	if seconds > 0 && seconds <= most {
		until = s.now().Add(time.Duration(math.Ceil(seconds*1000)) * time.Millisecond).Truncate(time.Millisecond)
	}
	p, err := pauseOf(ctx, req.GetLink(), req.GetTopic(), req.GetPartitions(), until)
	err = errors.Join(err, checkReason("why", req.GetWhy()),
		fields(when(!(seconds >= 0 && seconds <= most), "for_seconds", "%v is not between 0 and %v", seconds, most)))
	w := write{verb: "Pause", target: pauseTarget(req), reason: req.GetWhy(), dry: req.GetDryRun()}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	set := p.Setting()
	w.proposal.Entries = []gossip.Entry{{Key: set.Key, Value: set.Value}}
	return s.write(ctx, w)
}

// Resume implements the call of that name.
func (s *service) Resume(ctx context.Context, req *adminpb.ResumeRequest) (*adminpb.WriteResponse, error) {
	p, err := pauseOf(ctx, req.GetLink(), req.GetTopic(), req.GetPartitions(), time.Time{})
	w := write{verb: "Resume", target: pauseTarget(req), reason: req.GetWhy(), dry: req.GetDryRun()}
	if err = errors.Join(err, checkReason("why", req.GetWhy())); err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	set, err := s.node.Settings(ctx)
	if err != nil {
		return nil, s.code("Resume", err)
	}
	var left []string
	for _, e := range set.GetSettings() {
		q, ok := parsePause(e.GetKey())
		if !ok || q.Link != p.Link {
			continue
		}
		if includes(p.Topics, q.Topics.String()) && samePartitions(q, p) {
			w.proposal.Entries = append(w.proposal.Entries, gossip.Entry{Key: e.GetKey(), Deleted: true})
		} else if mayMeet(q, p) {
			left = append(left, fmt.Sprintf("%s (%s, %s)", pauseName(q), cmp.Or(e.GetAuthor(), "somebody"), cmp.Or(e.GetReason(), "no reason given")))
		}
	}
	slices.Sort(left)
	switch {
	case len(w.proposal.Entries) == 0 && len(left) > 0:
		return nil, s.refuse(ctx, w, &FieldError{"topic", "only a larger pause is there, resume that one: " + list(left)})
	case len(w.proposal.Entries) == 0:
		return nil, s.refuse(ctx, w, fmt.Errorf("a pause of %s: %w", pauseName(p), ErrUnknown))
	case len(left) > 0:
		w.also = []string{"still paused, by others: " + list(left)}
	}
	return s.write(ctx, w)
}

// pauseTarget is what a request is about, for the audit.
func pauseTarget(req interface {
	GetLink() string
	GetTopic() string
	GetPartitions() []int32
}) string {
	text := req.GetLink() + " " + cmp.Or(req.GetTopic(), everything)
	if len(req.GetPartitions()) > 0 {
		text += fmt.Sprintf(" partitions %v", req.GetPartitions()[:min(len(req.GetPartitions()), 20)])
	}
	return valid(text)
}

// pauseOf reads and checks what is to be paused or resumed.
func pauseOf(ctx context.Context, link, topic string, partitions []int32, until time.Time) (topology.Pause, error) {
	topic = cmp.Or(topic, everything)
	_, bad := topology.NewPause("link", topic, nil, until)
	_, badLink := topology.NewPause(link, everything, nil, until)
	_, badParts := topology.NewPause("link", everything, partitions, until)
	err := fields(
		missing("link", link, "name a link of the topology"),
		when(link != "" && badLink != nil, "link", "%.100q is no link's name", link),
		when(bad != nil, "topic", "%v", bad),
		when(badParts != nil, "partitions", "%v", badParts),
	)
	if err != nil {
		return topology.Pause{}, err
	}
	p, err := topology.NewPause(link, topic, partitions, until)
	if err != nil {
		return p, &FieldError{"link", err.Error()}
	}
	if len(p.Key()) > gossip.MaxKeyBytes {
		return p, &FieldError{"partitions", "their list is too long; do it in several steps, or for the whole topic"}
	}
	if who := callerOf(ctx); !who.covers(topic) {
		return p, fmt.Errorf("%w: the pattern %.300q fits topics other than %s, which %s is bound to; name those", ErrDenied, topic, list(who.topics.Strings()), who.name)
	}
	return p, nil
}

// refuse ends a write that could not begin.
func (s *service) refuse(ctx context.Context, w write, err error) error {
	s.audit.refused(ctx, deed{who: callerOf(ctx), verb: w.verb, target: w.target, why: w.reason}, err)
	return s.code(w.verb, err)
}

// Drain implements the call of that name.
func (s *service) Drain(ctx context.Context, req *adminpb.DrainRequest) (*adminpb.WriteResponse, error) {
	w := write{verb: "Drain", target: req.GetNode(), reason: req.GetReason(), confirm: req.GetConfirm(), dry: req.GetDryRun(), sure: !req.GetUndo()}
	err := errors.Join(fields(
		missing("node", req.GetNode(), "name a node"),
		when(strings.Contains(req.GetNode(), "/") || len(req.GetNode()) > 256, "node", "%.100q is no node's name", req.GetNode()),
	), checkReason("reason", req.GetReason()))
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	set := topology.DrainSetting(req.GetNode())
	e := gossip.Entry{Key: set.Key, Value: set.Value}
	if req.GetUndo() {
		e.Value, e.Deleted = nil, true
	}
	w.proposal.Entries = []gossip.Entry{e}
	return s.write(ctx, w)
}

// Set implements the call of that name.
func (s *service) Set(ctx context.Context, req *adminpb.SetRequest) (*adminpb.WriteResponse, error) {
	e := gossip.Entry{Key: req.GetKey(), Value: []byte(req.GetValue())}
	w := write{verb: "Set", target: req.GetKey(), reason: req.GetReason(), confirm: req.GetConfirm(), dry: req.GetDryRun()}
	return s.setOne(ctx, w, e, req.GetBase(), fields(
		missing("value", req.GetValue(), "give it as in a topology file, or unset the key"),
		when(len(req.GetValue()) > gossip.MaxValueBytes, "value", "has %d bytes, the limit is %d", len(req.GetValue()), gossip.MaxValueBytes),
	))
}

// Unset implements the call of that name.
func (s *service) Unset(ctx context.Context, req *adminpb.UnsetRequest) (*adminpb.WriteResponse, error) {
	w := write{verb: "Unset", target: req.GetKey(), reason: req.GetReason(), confirm: req.GetConfirm(), dry: req.GetDryRun()}
	return s.setOne(ctx, w, gossip.Entry{Key: req.GetKey(), Deleted: true}, req.GetBase(), nil)
}

func (s *service) setOne(ctx context.Context, w write, e gossip.Entry, base string, err error) (*adminpb.WriteResponse, error) {
	err = errors.Join(fields(
		missing("key", e.Key, "give one as in Settings, such as link/NAME/topics"),
		when(len(e.Key) > gossip.MaxKeyBytes, "key", "has %d bytes, the limit is %d", len(e.Key), gossip.MaxKeyBytes),
		when(strings.ContainsFunc(e.Key, unicode.IsControl), "key", "%.100q holds control characters", e.Key),
	), err, checkReason("reason", w.reason))
	if base != "" {
		var bad error
		e.Base, bad = gossip.ParseTime(base)
		err = errors.Join(err, fields(when(bad != nil, "base", "%v", bad)))
	}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	// What is not the caller's is refused before anything is told about it.
	if role := keyRole(e.Key); callerOf(ctx).role < role {
		return nil, s.refuse(ctx, w, callerOf(ctx).mayWrite(w.verb, []gossip.Entry{e}, nil))
	}
	w.proposal.Entries = []gossip.Entry{e}
	return s.write(ctx, w)
}

// Undo implements the call of that name.
func (s *service) Undo(ctx context.Context, req *adminpb.UndoRequest) (*adminpb.WriteResponse, error) {
	w := write{verb: "Undo", target: req.GetVersion(), reason: req.GetReason(), confirm: req.GetConfirm(), dry: req.GetDryRun(), sure: true}
	version, number := req.GetVersion(), int(req.GetNumber())
	err := errors.Join(fields(
		when((version == "") == (number == 0), "version", "give either the version of a change or its number in the history"),
		when(number < 0 || number > maxHistory, "number", "%d is not between 1 and %d", number, maxHistory),
	), checkReason("reason", req.GetReason()))
	if err == nil && number > 0 {
		w.target = "change " + strconv.Itoa(number)
		changes, bad := s.history(ctx, number)
		switch {
		case bad != nil:
			return nil, s.code("Undo", bad)
		case len(changes) < number:
			err = &FieldError{"number", fmt.Sprintf("%d is more than the history has: %d", number, len(changes))}
		default:
			version = changes[number-1].GetVersion()
			w.target = version
		}
	}
	if err == nil {
		if w.proposal.Undo, err = gossip.ParseTime(version); err != nil {
			err = &FieldError{"version", err.Error()}
		}
	}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	return s.write(ctx, w)
}

// Apply implements the call of that name.
func (s *service) Apply(ctx context.Context, req *adminpb.ApplyRequest) (*adminpb.WriteResponse, error) {
	w := write{verb: "Apply", target: "topology", reason: req.GetReason(), confirm: req.GetConfirm(), dry: req.GetDryRun(), sure: true,
		proposal: Proposal{File: req.GetFile()}}
	if err := errors.Join(checkFile(req.GetFile()), checkReason("reason", req.GetReason())); err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	return s.write(ctx, w)
}

// Diff implements the call of that name.
func (s *service) Diff(ctx context.Context, req *adminpb.DiffRequest) (*adminpb.WriteResponse, error) {
	if err := checkFile(req.GetFile()); err != nil {
		return nil, s.code("Diff", err)
	}
	plan, err := s.node.Plan(ctx, Proposal{File: req.GetFile()})
	if err != nil {
		return nil, s.code("Diff", err)
	}
	res := &adminpb.WriteResponse{Plan: plan.Lines, DryRun: true}
	if st, err := s.node.Status(ctx); err == nil {
		res.Touched = touched(st.GetLinks(), plan.Touches)
	}
	return res, nil
}

func checkFile(text string) error {
	return fields(missing("file", text, "send the text of a topology file"),
		when(len(text) > topology.MaxFileBytes, "file", "has %d bytes, the limit is %d", len(text), topology.MaxFileBytes))
}

func checkReason(field, reason string) error {
	return fields(when(len(reason) > gossip.MaxReasonBytes, field, "has %d bytes, the limit is %d", len(reason), gossip.MaxReasonBytes))
}
