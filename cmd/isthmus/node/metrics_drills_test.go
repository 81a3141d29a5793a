package node

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// TestLastDrills: the last of each mode counts, by its end; refused ones and rehearsals do not make a set practised.
func TestLastDrills(t *testing.T) {
	one := func(id, set, mode, verdict string, at int64) *adminpb.Drill {
		return &adminpb.Drill{Id: id, Set: set, Mode: mode, Verdict: verdict, Ended: timestamppb.New(time.Unix(at, 0))}
	}
	got := lastDrills([]*adminpb.Drill{
		one("a", "", "switchover", "pass", 100), one("b", "", "switchover", "fail", 200), one("c", "", "failover", "pass", 150), one("d", "", "failover", "refused", 300),
		one("e", "fast", "rehearse", "pass", 400), one("f", "", "failover", "aborted", 120), one("g", "gone", "failover", "pass", 900),
	}, []string{"", "fast", "never"})
	if len(got) != 3 || got[0].passed != 150 || got[0].last["switchover"].GetId() != "b" || got[0].last["failover"].GetId() != "c" || len(got[0].last) != 2 {
		t.Errorf("got %+v", got)
	}
	if got[1].passed != 0 || got[1].last["rehearse"].GetId() != "e" || got[2].passed != 0 || len(got[2].last) != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestRoomFor: what is kept is bounded, and rehearsals leave room for drills.
func TestRoomFor(t *testing.T) {
	for _, tc := range []struct {
		mode  string
		noted int
		room  bool
	}{{"rehearse", mostNoted/2 - 1, true}, {"rehearse", mostNoted / 2, false}, {"failover", mostNoted / 2, true}, {"failover", mostNoted - 1, true}, {"failover", mostNoted, false}} {
		if err := roomFor(tc.mode, tc.noted); (err == nil) != tc.room {
			t.Errorf("%s beside %d: %v", tc.mode, tc.noted, err)
		}
	}
}
