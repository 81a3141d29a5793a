package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/admin/drill"
	"github.com/isthmus-project/isthmus/router/generation"
)

// mostNoted is how many drills of a router are kept. They are in the logs that decide where its home is, which every instance reads when it starts, and nothing is
// taken out of those. Rehearsals get half of it.
const mostNoted = 2000

// roomFor returns why a drill of a mode is not kept beside so many others.
func roomFor(mode string, noted int) error {
	if noted >= mostNoted || mode == string(drill.Rehearse) && noted >= mostNoted/2 {
		return &admin.FieldError{Field: "drill", Msg: fmt.Sprintf("%d drills of the router are kept already, and %d, or of rehearsals half of it, is the most: keep the report itself, with --out", noted, mostNoted)}
	}
	return nil
}

// noteTries is how often a note that was overtaken is tried again.
const noteTries = 5

// withGenerations works with the store of a router's generations, which is read.
func (n *Node) withGenerations(ctx context.Context, router string, do func(*generation.Store) error) error {
	topo := n.fabric.runs()
	if topo == nil {
		return errors.New("the running configuration is not known yet; try again")
	}
	clusters := newOpened(topo, n.open)
	defer clusters.close()
	store, err := generationsOf(topo, router, n.doors.self, clusters)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Read(ctx); err != nil {
		return err
	}
	return do(store)
}

// NoteDrill implements [admin.Node].
func (a *answers) NoteDrill(ctx context.Context, d *adminpb.Drill) error {
	text, err := drill.EncodeNote(d)
	if err != nil {
		return err
	}
	return a.node.withGenerations(ctx, d.GetRouter(), func(store *generation.Store) error {
		noted, err := store.Notes(drill.NoteLog)
		if err == nil {
			err = roomFor(d.GetMode(), len(noted))
		}
		if err != nil {
			return err
		}
		for try := 1; ; try++ {
			err := store.Note(ctx, drill.NoteLog, text)
			if !errors.Is(err, generation.ErrBeaten) || try == noteTries {
				return err
			}
		}
	})
}

// Rehearse implements [admin.Node].
func (a *answers) Rehearse(ctx context.Context, req *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error) {
	topo := a.node.fabric.runs()
	if topo == nil {
		return nil, errors.New("the running configuration is not known yet; try again")
	}
	c, end, err := a.node.coordinator(topo, req.GetRouter())
	if err != nil {
		return nil, err
	}
	defer end()
	r, err := c.Rehearse(ctx, req.GetSet(), req.GetTo(), req.GetTopic())
	if err != nil {
		return nil, err
	}
	out := &adminpb.RehearseResponse{From: r.From, To: r.To, Checks: checksOf(r.Checks), Shadowed: r.Shadowed, Records: r.Records}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, &adminpb.RehearseStep{Name: s.Name, Seconds: s.Took.Seconds(), Part: s.Part})
	}
	for _, f := range r.Failures {
		out.Failures = append(out.Failures, someLines(f))
	}
	return out, nil
}

// Drills implements [admin.Node].
func (a *answers) Drills(ctx context.Context, router string) (out []*adminpb.Drill, err error) {
	err = a.node.withGenerations(ctx, router, func(store *generation.Store) error {
		out, err = drillsOf(store, router)
		return err
	})
	return out, err
}

// drillsOf are the drills that were noted, as far as was read. A note that may have been written twice is told once.
func drillsOf(store *generation.Store, router string) (out []*adminpb.Drill, err error) {
	notes, err := store.Notes(drill.NoteLog)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(notes))
	for i, text := range notes {
		if seen[text] {
			continue
		}
		seen[text] = true
		d, err := drill.DecodeNote(router, text)
		if err != nil {
			return nil, fmt.Errorf("note %d: %w", i, err)
		}
		out = append(out, d)
	}
	return out, nil
}
