package relay

import (
	"encoding/binary"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/members"
)

// newMoved is a lab whose home has just moved. known are the members of the group that there were.
func newMoved(t *testing.T, known ...string) *lab {
	t.Helper()
	b := members.New(time.Now(), map[string][]string{"g": known})
	return newLab(t, func(c *Config) { c.Members = func() *members.Book { return b } })
}

func joining(member string) *kmsg.JoinGroupRequest {
	m := kmsg.NewPtrJoinGroupRequest()
	m.Group, m.MemberID, m.ProtocolType = "g", member, "consumer"
	return m
}

func joined(code int16, member string) *kmsg.JoinGroupResponse {
	m := kmsg.NewPtrJoinGroupResponse()
	m.ErrorCode, m.MemberID = code, member
	return m
}

// asks reads a request of a key at the broker, with the correlation id that it has.
func (l *lab) asks(c net.Conn, m kmsg.Request, version int16) int32 {
	l.t.Helper()
	b := read(l.t, c)
	id := int32(binary.BigEndian.Uint32(b[4:]))
	at := 10 + int(binary.BigEndian.Uint16(b[8:]))
	if kmsg.RequestForKey(int16(binary.BigEndian.Uint16(b))).Key() != m.Key() {
		l.t.Fatalf("asked %s", kmsg.NameForKey(int16(binary.BigEndian.Uint16(b))))
	}
	if apis.Flexible(m.Key(), version) {
		at++ // no tags
	}
	m.SetVersion(version)
	if err := m.ReadFrom(b[at:]); err != nil {
		l.t.Fatal(err)
	}
	return id
}

// TestGroups_Handshake: a member of before sees one answer to its JoinGroup, with an id of the new home; the home sees the way that a new member takes.
func TestGroups_Handshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMoved(t, "old")
		post(l.client, request(5, 9, joining("old")))
		home := <-l.broker
		var got kmsg.JoinGroupRequest
		id := l.asks(home, &got, 9)
		if got.MemberID != "" || got.Group != "g" {
			t.Errorf("asked for an id by %+v", got)
		}
		post(home, answer(id, 9, joined(kerr.MemberIDRequired.Code, "new")))
		if id := l.asks(home, &got, 9); id != 5 || got.MemberID != "new" {
			t.Errorf("joins by %+v, correlation id %d", got, id)
		}
		post(home, answer(5, 9, joined(0, "new")))
		var resp kmsg.JoinGroupResponse
		resp.SetVersion(9)
		if err := resp.ReadFrom(expect(t, l.client, 5)[1:]); err != nil || resp.MemberID != "new" || resp.ErrorCode != 0 {
			t.Errorf("%+v, %v", resp, err)
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID = "g", "new"
		post(l.client, request(6, 4, beat))
		asked(t, home, kmsg.Heartbeat, 6) // it is a member there
		_ = l.client.Close()
		<-l.ended
	})
}

// TestGroups_HandshakeRefused: what the home answers instead of an id is what the client is told.
func TestGroups_HandshakeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMoved(t, "old")
		post(l.client, request(5, 9, joining("old")))
		home := <-l.broker
		id := l.asks(home, new(kmsg.JoinGroupRequest), 9)
		post(home, answer(id, 9, joined(kerr.NotCoordinator.Code, "")))
		var resp kmsg.JoinGroupResponse
		resp.SetVersion(9)
		if err := resp.ReadFrom(expect(t, l.client, 5)[1:]); err != nil || resp.ErrorCode != kerr.NotCoordinator.Code {
			t.Errorf("%+v, %v", resp, err)
		}
		_ = l.client.Close()
		<-l.ended
	})
}

// TestGroups_Barrier: a member waits for the others, but not for ever, and those are answered meanwhile.
func TestGroups_Barrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMoved(t, "old", "other")
		began := time.Now()
		post(l.client, request(5, 9, joining("old")))
		home := <-l.broker
		id := l.asks(home, new(kmsg.JoinGroupRequest), 9) // for an id: a home that waits for all who asked for one is to know of them before the first joins
		post(home, answer(id, 9, joined(kerr.MemberIDRequired.Code, "new")))
		l.asks(home, new(kmsg.JoinGroupRequest), 9)
		if d := time.Since(began); d != members.Barrier {
			t.Errorf("it waited for %v, want %v", d, members.Barrier)
		}
		_ = l.client.Close()
		<-l.ended
	})
}

// TestGroups_Together: who joins first hears of it when all others have sent their requests, too, or it takes too long.
func TestGroups_Together(t *testing.T) {
	for name, both := range map[string]bool{"all": true, "one is missing": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := members.New(time.Now(), map[string][]string{"g": {"a", "b"}})
				var labs []*lab
				homes := make([]net.Conn, 2)
				for i, id := range []string{"a", "b"} {
					l := newLab(t, func(c *Config) { c.Members = func() *members.Book { return b } })
					post(l.client, request(5, 9, joining(id)))
					homes[i] = <-l.broker
					post(homes[i], answer(l.asks(homes[i], new(kmsg.JoinGroupRequest), 9), 9, joined(kerr.MemberIDRequired.Code, "new-"+id)))
					labs = append(labs, l)
					synctest.Wait()
				}
				labs[0].asks(homes[0], new(kmsg.JoinGroupRequest), 9)
				synctest.Wait()
				began := time.Now()
				post(homes[0], answer(5, 9, joined(0, "new-a")))
				if both {
					time.AfterFunc(100*time.Millisecond, func() { _, _ = homes[1].Read(make([]byte, 1000)) })
				}
				expect(t, labs[0].client, 5)
				if d, want := time.Since(began), map[bool]time.Duration{true: 100 * time.Millisecond, false: members.Together}[both]; d != want {
					t.Errorf("it heard after %v, want %v", d, want)
				}
				for _, l := range labs {
					_ = l.client.Close()
				}
				_ = homes[1].Close()
				for _, l := range labs {
					<-l.ended
				}
			})
		})
	}
}

// TestGroups_Adopt: a commit of a member of before is one of no member at the new home.
func TestGroups_Adopt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMoved(t, "old")
		m := kmsg.NewPtrOffsetCommitRequest()
		m.Group, m.MemberID, m.Generation = "g", "old", 3
		post(l.client, request(7, 8, m))
		home := <-l.broker
		var got kmsg.OffsetCommitRequest
		if id := l.asks(home, &got, 8); id != 7 || got.MemberID != "" || got.Generation != -1 {
			t.Errorf("%+v", got)
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID = "g", "old"
		post(l.client, request(8, 4, beat))
		post(home, answer(7, 8, kmsg.NewPtrOffsetCommitResponse()))
		expect(t, l.client, 7)
		var resp kmsg.HeartbeatResponse
		resp.SetVersion(4)
		if err := resp.ReadFrom(expect(t, l.client, 8)[1:]); err != nil || resp.ErrorCode != kerr.RebalanceInProgress.Code {
			t.Errorf("%+v, %v", resp, err)
		}
		_ = l.client.Close()
		<-l.ended
	})
}
