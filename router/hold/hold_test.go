package hold

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
)

func TestOf(t *testing.T) {
	never, always := func() bool { return false }, func() bool { return true }
	for _, tc := range []struct {
		key                  kmsg.Key
		open                 func() bool
		draining, held, lost Deed
	}{
		{kmsg.Produce, never, Forward, Wait, Wait},
		{kmsg.Fetch, never, Forward, Forward, Wait},
		{kmsg.Metadata, never, Forward, Forward, Wait},
		{kmsg.FindCoordinator, never, Forward, Forward, Wait},
		{kmsg.SASLAuthenticate, never, Forward, Forward, Wait},
		{kmsg.ListOffsets, never, Forward, Wait, Wait},
		{kmsg.Heartbeat, never, Forward, Answer, Answer},
		{kmsg.JoinGroup, never, Forward, Wait, Wait},
		{kmsg.SyncGroup, never, Forward, Wait, Wait},
		{kmsg.LeaveGroup, never, Forward, Wait, Wait},
		{kmsg.OffsetCommit, never, Forward, Wait, Wait},
		{kmsg.OffsetFetch, never, Forward, Wait, Wait},
		{kmsg.InitProducerID, never, Wait, Wait, Wait},
		{kmsg.AddPartitionsToTxn, never, Wait, Wait, Wait},
		{kmsg.AddPartitionsToTxn, always, Forward, Wait, Wait},
		{kmsg.AddOffsetsToTxn, always, Forward, Wait, Wait},
		{kmsg.TxnOffsetCommit, always, Forward, Wait, Wait},
		{kmsg.EndTxn, always, Forward, Wait, Wait},
		{kmsg.CreateTopics, never, Forward, Wait, Wait},
		{kmsg.AlterConfigs, never, Forward, Wait, Wait},
	} {
		for phase, want := range map[Phase]Deed{Serving: Forward, Draining: tc.draining, Held: tc.held, Lost: tc.lost} {
			if got := Of(int16(tc.key), phase, tc.open); got != want {
				t.Errorf("%s, %v: %d, want %d", tc.key.Name(), phase, got, want)
			}
		}
	}
}

// TestOf_WhatIsOffered: nothing that may change the home gets there while it is held, and nothing at all where it is lost.
func TestOf_WhatIsOffered(t *testing.T) {
	for key := range int16(kmsg.MaxKey + 1) {
		row, ok := apis.Of(key, 0)
		if !ok || row.Does == apis.Hide || kmsg.Key(key) == kmsg.ApiVersions {
			continue
		}
		open := func() bool { return true }
		if Writes(key) && Of(key, Held, open) != Wait {
			t.Errorf("%s may change the home that is held", kmsg.NameForKey(key))
		}
		if Of(key, Lost, open) == Forward {
			t.Errorf("%s goes to a home that is lost", kmsg.NameForKey(key))
		}
	}
}

// TestAnswered: what is answered here is no error in any version.
func TestAnswered(t *testing.T) {
	for version := range int16(5) {
		m := Answered(int16(kmsg.Heartbeat), version).(*kmsg.HeartbeatResponse)
		if m.GetVersion() != version || m.ErrorCode != 0 {
			t.Errorf("v%d: %+v", version, m)
		}
	}
}
