package members

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var moved = time.Unix(1000, 0)

func join(version int16, member string, instance *string) *kmsg.JoinGroupRequest {
	m := kmsg.NewPtrJoinGroupRequest()
	m.Version, m.Group, m.MemberID, m.InstanceID = version, "g", member, instance
	return m
}

func heartbeat(member string) *kmsg.HeartbeatRequest {
	m := kmsg.NewPtrHeartbeatRequest()
	m.Version, m.Group, m.MemberID = 4, "g", member
	return m
}

func open(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return c == nil
	}
}

// joins lets a member that the new home has taken go the whole way.
func joins(b *Book, d Deed, code int16, member string) {
	r := kmsg.NewPtrJoinGroupResponse()
	r.ErrorCode, r.MemberID = code, member
	d.Edit(r)
}

// TestBook_Barrier: nobody joins before all that were known are back, or have left, or it takes too long.
func TestBook_Barrier(t *testing.T) {
	b := New(moved, map[string][]string{"g": {"a", "b", "c"}})
	first := b.Request(moved, join(9, "a", nil))
	fresh := b.Request(moved, join(9, "", nil))
	if open(first.Wait) || open(fresh.Wait) || !first.Until.Equal(moved.Add(Barrier)) {
		t.Fatal("the barrier is open at the first who is back")
	}
	b.Request(moved, join(9, "a", nil)) // again: it had to connect anew
	if d := b.Request(moved, join(9, "b", nil)); open(d.Wait) {
		t.Error("it is open with two of three")
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group = 5, "g"
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = "c"
	leave.Members = append(leave.Members, one)
	if d := b.Request(moved, leave); d.Answer == nil || len(d.Answer.(*kmsg.LeaveGroupResponse).Members) != 1 || d.Answer.(*kmsg.LeaveGroupResponse).Members[0].ErrorCode != 0 {
		t.Errorf("who leaves is told %+v", d.Answer)
	}
	if !open(first.Wait) || !open(fresh.Wait) {
		t.Error("it is closed when all are back or have left")
	}
	if d := b.Request(moved, join(9, "", nil)); d.Wait != nil {
		t.Error("somebody new waits behind it")
	}
	if c := b.Counts(); c.Back != 2 || c.Stale != 1 {
		t.Errorf("%+v", c)
	}
	for name, tc := range map[string]struct {
		known map[string][]string
		after time.Duration
		wait  bool
	}{
		"nobody was asked":        {nil, 0, true},
		"nobody was asked, later": {nil, Barrier, false},
		"it had no members":       {map[string][]string{"other": {"a"}}, 0, false},
		"one never comes back":    {map[string][]string{"g": {"a", "b"}}, Barrier - 1, true},
		"and the time is over":    {map[string][]string{"g": {"a", "b"}}, Barrier, false},
	} {
		if d := New(moved, tc.known).Request(moved.Add(tc.after), join(9, "a", nil)); (d.Wait != nil) != tc.wait {
			t.Errorf("%s: waits %v", name, d.Wait != nil)
		}
	}
}

// TestBook_Join: who has an id of before gets another one, unseen, and is no stranger then.
func TestBook_Join(t *testing.T) {
	instance := "i"
	for name, tc := range map[string]struct {
		m         *kmsg.JoinGroupRequest
		handshake bool
	}{
		"stale":            {join(9, "a", nil), true},
		"old client":       {join(3, "a", nil), false},
		"static":           {join(9, "a", &instance), false},
		"never was member": {join(9, "", nil), false},
	} {
		b := New(moved, nil)
		d := b.Request(moved, tc.m)
		if tc.m.MemberID != "" || d.Handshake != tc.handshake {
			t.Errorf("%s: sent with id %q, handshake %v", name, tc.m.MemberID, d.Handshake)
		}
		if got := b.Request(moved, heartbeat("new")); got.Answer.(*kmsg.HeartbeatResponse).ErrorCode != kerr.RebalanceInProgress.Code {
			t.Errorf("%s: %+v", name, got)
		}
		joins(b, d, 0, "new")
		if got := b.Request(moved, heartbeat("new")); got.Answer != nil || got.Edit != nil {
			t.Errorf("%s: a member of the new home is answered %+v", name, got)
		}
		again := join(9, "new", nil)
		if d := b.Request(moved, again); again.MemberID != "new" || d.Handshake {
			t.Errorf("%s: a member of the new home is taken for one of before", name)
		}
	}
	b := New(moved, nil)
	joins(b, b.Request(moved, join(9, "", nil)), kerr.MemberIDRequired.Code, "given")
	given := join(9, "given", nil)
	if d := b.Request(moved, given); given.MemberID != "given" || d.Handshake {
		t.Error("an id that the home has given is taken for one of before")
	}
	joins(b, b.Request(moved, join(9, "", nil)), kerr.UnknownMemberID.Code, "refused")
	if d := b.Request(moved, heartbeat("refused")); d.Answer == nil {
		t.Error("who was refused is a member")
	}
}

// TestBook_Commits: commits of members of before are taken over, and what the home makes of one that came too late is no news that a client despairs of.
func TestBook_Commits(t *testing.T) {
	b := New(moved, nil)
	m := kmsg.NewPtrOffsetCommitRequest()
	m.Version, m.Group, m.MemberID, m.Generation = 8, "g", "a", 7
	d := b.Request(moved, m)
	if m.MemberID != "" || m.Generation != -1 || m.InstanceID != nil || d.Edit == nil {
		t.Fatalf("%+v", m)
	}
	answer := func(codes ...int16) *kmsg.OffsetCommitResponse {
		r := kmsg.NewPtrOffsetCommitResponse()
		topic := kmsg.NewOffsetCommitResponseTopic()
		for _, c := range codes {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.ErrorCode = c
			topic.Partitions = append(topic.Partitions, p)
		}
		r.Topics = append(r.Topics, topic)
		return r
	}
	r := answer(0, kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code, kerr.TopicAuthorizationFailed.Code)
	d.Edit(r)
	for i, want := range []int16{0, kerr.RebalanceInProgress.Code, kerr.RebalanceInProgress.Code, kerr.TopicAuthorizationFailed.Code} {
		if got := r.Topics[0].Partitions[i].ErrorCode; got != want {
			t.Errorf("partition %d: %d, want %d", i, got, want)
		}
	}
	d.Edit(answer(0))
	if c := b.Counts(); c.Adopted != 1 || c.Refused != 1 {
		t.Errorf("%+v", c)
	}
	simple := kmsg.NewPtrOffsetCommitRequest()
	simple.Version, simple.Group, simple.Generation = 8, "g", -1
	if d := b.Request(moved, simple); d.Edit != nil || d.Answer != nil {
		t.Error("a commit of no member is looked at")
	}
}

// TestBook_Others: SyncGroup and both kinds of LeaveGroup of who was a member before.
func TestBook_Others(t *testing.T) {
	b := New(moved, nil)
	joins(b, b.Request(moved, join(9, "", nil)), 0, "new")
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID = 5, "g", "a"
	if d := b.Request(moved, sync); d.Answer == nil || d.Answer.(*kmsg.SyncGroupResponse).ErrorCode != kerr.RebalanceInProgress.Code || d.Answer.GetVersion() != 5 {
		t.Errorf("%+v", d)
	}
	old := kmsg.NewPtrLeaveGroupRequest()
	old.Version, old.Group, old.MemberID = 2, "g", "a"
	if d := b.Request(moved, old); d.Answer == nil || d.Answer.(*kmsg.LeaveGroupResponse).ErrorCode != 0 {
		t.Errorf("%+v", d)
	}
	old.MemberID = "new"
	if d := b.Request(moved, old); d.Answer != nil {
		t.Error("a member of the new home cannot leave it")
	}
	two := kmsg.NewPtrLeaveGroupRequest()
	two.Version, two.Group = 4, "g"
	for _, id := range []string{"a", "new"} {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = id
		two.Members = append(two.Members, one)
	}
	if d := b.Request(moved, two); d.Answer != nil {
		t.Error("a member of the new home cannot leave it together with another")
	}
	if b.Over(moved.Add(Window)) || !b.Over(moved.Add(Window+1)) {
		t.Error("when it is over")
	}
}

// TestBook_Bounded: clients that name members and groups as they like take no memory.
func TestBook_Bounded(t *testing.T) {
	b := New(moved, nil)
	for i := range 2 * mostBack {
		m := heartbeat(time.Duration(i).String())
		m.Group = m.MemberID
		b.Request(moved, m)
		b.Request(moved, join(9, m.MemberID, nil))
	}
	if len(b.groups) != 1 || len(b.groups["g"].back) > mostBack {
		t.Errorf("%d groups, %d members", len(b.groups), len(b.groups["g"].back))
	}
}
