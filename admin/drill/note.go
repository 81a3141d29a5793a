package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// NoteLog is the log of notes in which a router's drills are kept (generation.Store.Note).
const NoteLog = "@drills"

// noteVersion is that of the notes that are written here. Older ones are read.
const noteVersion = 1

// ErrVersion says that a note is of a newer Isthmus.
var ErrVersion = errors.New("a drill was noted by a newer Isthmus; upgrade this node to read it")

// note is a drill as it is kept: JSON, so that people can read it. Moments are ms since 1970.
type note struct {
	V       int     `json:"v"`
	ID      string  `json:"id"`
	Set     string  `json:"set,omitempty"`
	Mode    string  `json:"mode"`
	From    string  `json:"from,omitempty"`
	To      string  `json:"to,omitempty"`
	Verdict string  `json:"verdict"`
	Began   int64   `json:"began"`
	Ended   int64   `json:"ended"`
	RTO     float64 `json:"rto_seconds,omitempty"`
	RPO     rpo     `json:"rpo,omitzero"`
	Failure string  `json:"failure,omitempty"`
	Warned  int32   `json:"warnings,omitempty"`
	By      string  `json:"by,omitempty"`
	Why     string  `json:"why,omitempty"`
}

type rpo struct {
	Records int64   `json:"records"`
	Seconds float64 `json:"seconds"`
}

// EncodeNote is what is kept of a drill.
func EncodeNote(d *adminpb.Drill) (string, error) {
	b, err := json.Marshal(note{V: noteVersion, ID: d.GetId(), Set: d.GetSet(), Mode: d.GetMode(), From: d.GetFrom(), To: d.GetTo(), Verdict: d.GetVerdict(),
		Began: d.GetBegan().AsTime().UnixMilli(), Ended: d.GetEnded().AsTime().UnixMilli(), RTO: d.GetRtoSeconds(), RPO: rpo{d.GetRpoRecords(), d.GetRpoSeconds()},
		Failure: d.GetFailure(), Warned: d.GetWarnings(), By: d.GetBy(), Why: d.GetWhy()})
	if err != nil {
		return "", fmt.Errorf("encode note of drill %.100q: %w", d.GetId(), err)
	}
	return string(b), nil
}

// DecodeNote reads a note of a router's log. Its error wraps [ErrVersion] for one of a version that is not known.
func DecodeNote(router, text string) (*adminpb.Drill, error) {
	var n note
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return nil, fmt.Errorf("decode note of a drill of router %s: %w", router, err)
	}
	if n.V > noteVersion || n.V < 1 {
		return nil, fmt.Errorf("decode note of a drill of router %s: version %d: %w", router, n.V, ErrVersion)
	}
	return &adminpb.Drill{Id: n.ID, Router: router, Set: n.Set, Mode: n.Mode, From: n.From, To: n.To, Verdict: n.Verdict, Began: timestamppb.New(time.UnixMilli(n.Began)), Ended: timestamppb.New(time.UnixMilli(n.Ended)),
		RtoSeconds: n.RTO, RpoRecords: n.RPO.Records, RpoSeconds: n.RPO.Seconds, Failure: n.Failure, Warnings: n.Warned, By: n.By, Why: n.Why}, nil
}

// Note is what is to be kept of a report.
func (r *Report) Note() *adminpb.Drill {
	d := &adminpb.Drill{Id: r.ID, Router: r.Router, Set: r.Set, Mode: string(r.Mode), From: r.From, To: r.To, Verdict: string(r.Verdict), Began: timestamppb.New(r.Began), Ended: timestamppb.New(r.Ended),
		Warnings: int32(len(r.Warnings)), Why: r.Why}
	if len(r.Failures) > 0 {
		d.Failure = r.Failures[0]
	}
	if r.Result != nil {
		d.RtoSeconds, d.RpoRecords, d.RpoSeconds = r.Result.RTOSeconds, r.Result.RPORecords, r.Result.RPOSeconds
	}
	if r.Rehearsal != nil {
		d.RtoSeconds = r.Rehearsal.Seconds
	}
	return d
}
