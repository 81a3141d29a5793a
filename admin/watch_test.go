package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

func event(i int) *adminpb.Event {
	return &adminpb.Event{Kind: adminpb.EventKind_EVENT_KIND_STATE, Link: "eu-us", Topic: "orders", Partition: int32(i)}
}

func TestEvents_SlowReaderIsToldWhatItLost(t *testing.T) {
	var events Events
	slow := events.add(func(*adminpb.Event) bool { return true })
	quick := events.add(func(*adminpb.Event) bool { return true })
	const all = 10_000
	next := 0
	for i := range all {
		events.Publish(event(i))
		for _, e := range quick.take() {
			if e.Partition != int32(next) {
				t.Fatalf("the quick reader got event %d in place of %d", e.Partition, next)
			}
			next++
		}
	}
	got := slow.take()
	if len(got) > maxBacklog+1 || got[0].Kind != adminpb.EventKind_EVENT_KIND_LOST || got[0].Lost+int64(len(got)-1) != all || got[len(got)-1].Partition != all-1 {
		t.Errorf("the slow reader got %d events, first %v, last %v; want the newest, behind a word about the others", len(got), got[0], got[len(got)-1])
	}
	if more := slow.take(); len(more) != 0 {
		t.Errorf("there are %d more", len(more))
	}
	events.remove(slow)
	events.Publish(event(0))
	if len(slow.take()) != 0 || len(quick.take()) != 1 {
		t.Error("who went still gets events, or who stayed does not")
	}
}

// watch starts to watch and waits until nothing will be missed.
func watch(t *testing.T, c *Client, req *adminpb.WatchRequest) adminpb.Admin_WatchClient {
	t.Helper()
	stream, err := c.api.Watch(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestWatch_TellsWhatOneMaySee(t *testing.T) {
	events := &Events{}
	town := newCity()
	town.add(t, "a", newFake("a"), func(c *Config) { c.Access, c.Events = people(t), events })
	sent := []*adminpb.Event{
		{Kind: adminpb.EventKind_EVENT_KIND_MEMBER, Node: "b"},
		{Kind: adminpb.EventKind_EVENT_KIND_OWNER, Link: "eu-us", Topic: "orders"},
		{Kind: adminpb.EventKind_EVENT_KIND_OWNER, Link: "eu-us", Topic: "payments"},
		{Kind: adminpb.EventKind_EVENT_KIND_STATE, Link: "us-eu", Topic: "orders"},
		{Kind: adminpb.EventKind_EVENT_KIND_STATE, Link: "us-eu"},
		{Kind: adminpb.EventKind_EVENT_KIND_SETTING, Key: "pause/eu-us/orders-*/*"},
		{Kind: adminpb.EventKind_EVENT_KIND_SETTING, Key: "pause/eu-us/*/*"},
		{Kind: adminpb.EventKind_EVENT_KIND_SETTING, Key: "log/level"},
	}
	end := &adminpb.Event{Kind: adminpb.EventKind_EVENT_KIND_MEMBER, Text: "the end"}
	for _, tc := range []struct {
		who  string
		req  *adminpb.WatchRequest
		want []int
	}{
		{"viewer", &adminpb.WatchRequest{}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"viewer-orders", &adminpb.WatchRequest{}, []int{0, 1, 3, 5}},
		{"viewer", &adminpb.WatchRequest{Link: "us-eu"}, []int{0, 3, 4, 5, 6, 7}},
		{"viewer", &adminpb.WatchRequest{Kinds: []adminpb.EventKind{adminpb.EventKind_EVENT_KIND_STATE, adminpb.EventKind_EVENT_KIND_MEMBER}}, []int{0, 3, 4}},
	} {
		t.Run(fmt.Sprint(tc.who, tc.req), func(t *testing.T) {
			stream := watch(t, town.client(t, "a", Login{Token: tokenFor(tc.who)}), tc.req)
			for _, e := range append(sent[:len(sent):len(sent)], end) {
				events.Publish(e)
			}
			for _, i := range append(tc.want, -1) {
				want := end
				if i >= 0 {
					want = sent[i]
				}
				if got, err := stream.Recv(); err != nil || !proto.Equal(got, want) {
					t.Fatalf("got %v, %v, want %v", got, err, want)
				}
			}
		})
	}
}

func TestWatch_ManyReadersThatDoNotRead(t *testing.T) {
	events := &Events{}
	town := newCity()
	town.add(t, "a", newFake("a"), func(c *Config) { c.Events = events })
	c := town.client(t, "a", Login{})
	streams := make([]adminpb.Admin_WatchClient, 20)
	for i := range streams {
		streams[i] = watch(t, c, &adminpb.WatchRequest{})
	}
	const all = 20_000
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range all / 4 {
				e := event(w*all/4 + i)
				e.Text = string(make([]byte, 200))
				events.Publish(e) // must not wait for anybody
			}
		})
	}
	writers.Wait()
	events.Publish(&adminpb.Event{Kind: adminpb.EventKind_EVENT_KIND_OWNER})
	for i, s := range streams {
		var got, lost int64
		for {
			e, err := s.Recv()
			if err != nil {
				t.Fatalf("reader %d: %v", i, err)
			}
			if e.Kind == adminpb.EventKind_EVENT_KIND_OWNER {
				break
			}
			if e.Kind == adminpb.EventKind_EVENT_KIND_LOST {
				lost += e.Lost
				continue
			}
			got++
		}
		if got+lost != all || lost == 0 {
			t.Errorf("reader %d got %d events and lost %d, want %d together", i, got, lost, all)
		}
	}
}

func TestWatch_EndsWithItsServerAndItsReader(t *testing.T) {
	events := &Events{}
	town := newCity()
	ctx, cancel := context.WithCancel(t.Context())
	t.Run("server", func(t *testing.T) {
		town.add(t, "a", newFake("a"), func(c *Config) { c.Events = events })
		c := town.client(t, "a", Login{})
		enough := errors.New("enough")
		go func() {
			waitFor(t, func() bool { events.mu.Lock(); defer events.mu.Unlock(); return len(events.watchers) > 0 })
			events.Publish(event(1))
		}()
		if err := c.Watch(ctx, &adminpb.WatchRequest{}, func(*adminpb.Event) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("the reader's own error became %v", err)
		}
		waitFor(t, func() bool { events.mu.Lock(); defer events.mu.Unlock(); return len(events.watchers) == 0 })
		watch(t, c, &adminpb.WatchRequest{}) // and the server ends while somebody watches
	})
	cancel()
	waitFor(t, func() bool { events.mu.Lock(); defer events.mu.Unlock(); return len(events.watchers) == 0 })
}

func TestWatch_EndsWhenItsTokenIsGone(t *testing.T) {
	path, ref := secretFile(t, "token", "token-number-one-1111\n")
	hand := newHand()
	g, err := newGuard(topology.Admin{Identities: []topology.Identity{{Name: "ana", Token: ref, Role: topology.Viewer}}}, nil, hand.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.who(t.Context(), []string{"Bearer token-number-one-1111"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), againKey{}, func() error {
		_, err := g.who(t.Context(), []string{"Bearer token-number-one-1111"}, nil, nil)
		return err
	})
	if err := stillMay(ctx); err != nil {
		t.Errorf("while the token is there: %v", err)
	}
	replace(t, path, "token-number-two-2222\n")
	hand.move(tokensFresh)
	if err := stillMay(ctx); !errors.Is(err, ErrLogin) {
		t.Errorf("when it is gone: %v, want ErrLogin", err)
	}
}
