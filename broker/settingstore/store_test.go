package settingstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/broker/settingstore"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// lab is a kfake cluster in a bubble and stores in it.
type lab struct {
	t    *testing.T
	net  *kfake.VirtualNetwork
	fake *kfake.Cluster
}

func newLab(t *testing.T, brokers int) *lab {
	t.Helper()
	l := &lab{t: t, net: &kfake.VirtualNetwork{}}
	ports := []int{9092, 9093, 9094}[:brokers]
	fake, err := kfake.NewCluster(kfake.ListenFn(l.net.Listen), kfake.Ports(ports...), kfake.NumBrokers(brokers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	l.fake = fake
	return l
}

func (l *lab) open() *broker.Cluster {
	l.t.Helper()
	return open(l.t, broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, Dial: l.net.DialContext})
}

func open(t *testing.T, p broker.Profile) *broker.Cluster {
	t.Helper()
	c, err := broker.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func store(t *testing.T, c *broker.Cluster) *settingstore.Store {
	s := settingstore.New(c)
	t.Cleanup(s.Close)
	return s
}

// change is a change with a few entries.
func change(i int) gossip.Change {
	return gossip.Change{
		Version: gossip.Time{Wall: 1000 + int64(i), Counter: uint32(i % 3), Node: "eu-1"}, Author: "ana", Reason: fmt.Sprintf("reason %d", i),
		Entries: []gossip.Entry{{Key: fmt.Sprintf("link/l%d", i), Value: []byte(`"present"`)}, {Key: "log/level", Deleted: true, Base: gossip.Time{Wall: 5, Node: "eu-2"}}},
	}
}

func changes(from, to int) (all []gossip.Change) {
	for i := from; i < to; i++ {
		all = append(all, change(i))
	}
	return all
}

// holds wants a store to load exactly these changes, in any order.
func holds(t *testing.T, s *settingstore.Store, want []gossip.Change) error {
	t.Helper()
	got, err := s.Load(t.Context())
	slices.SortFunc(got, func(a, b gossip.Change) int { return a.Version.Compare(b.Version) })
	if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("the store holds %d changes, want the %d that were saved (%v)", len(got), len(want), err)
	}
	return err
}

func TestStore_KeepsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 3)
		a, b := store(t, l.open()), store(t, l.open())
		if err := holds(t, a, nil); err != nil {
			t.Errorf("load without a topic: %v", err)
		}
		// Two nodes begin at once, and both save one change.
		var all sync.WaitGroup
		for _, s := range []*settingstore.Store{a, b} {
			all.Go(func() {
				if err := s.Save(t.Context(), changes(0, 20)...); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := a.Save(t.Context()); err != nil {
			t.Errorf("save nothing: %v", err)
		}
		if err := b.Save(t.Context(), changes(20, 25)...); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*settingstore.Store{a, b, store(t, l.open())} {
			if err := holds(t, s, changes(0, 25)); err != nil {
				t.Error(err)
			}
		}
		configs, err := l.open().TopicConfigs(t.Context(), settingstore.Topic)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"cleanup.policy": "compact", "min.insync.replicas": "2"} {
			if got := configs[settingstore.Topic][name].Value; got != want {
				t.Errorf("%s of the topic is %q, want %q", name, got, want)
			}
		}
		m, err := l.open().Metadata(t.Context(), settingstore.Topic)
		if p := m.Topics[settingstore.Topic].Partitions; err != nil || len(p) != 1 || len(p[0].Replicas) != 3 {
			t.Errorf("the topic has %d partitions (%v), want one with three replicas", len(p), err)
		}
	})
}

// The largest change that there may be fits.
func TestStore_Drops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store(t, newLab(t, 1).open())
		all := changes(0, 9)
		if err := errors.Join(s.Save(t.Context(), all...), s.Drop(t.Context(), all[0].Version, all[4].Version, gossip.Time{Wall: 1, Node: "never"})); err != nil {
			t.Fatal(err)
		}
		if err := holds(t, s, slices.Concat(all[1:4], all[5:])); err != nil {
			t.Error(err)
		}
		if err := s.Save(t.Context(), all[4]); err != nil { // by a node that missed what came after it
			t.Fatal(err)
		}
		if err := holds(t, s, all[1:]); err != nil {
			t.Error(err)
		}
	})
}

func TestStore_KeepsTheLargestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store(t, newLab(t, 1).open())
		c := change(1)
		c.Entries = nil
		for i := range 7 {
			c.Entries = append(c.Entries, gossip.Entry{Key: fmt.Sprintf("link/%d", i), Value: bytes.Repeat([]byte{'x'}, gossip.MaxValueBytes)})
		}
		if err := s.Save(t.Context(), c, change(2)); err != nil {
			t.Fatal(err)
		}
		if err := holds(t, s, []gossip.Change{c, change(2)}); err != nil {
			t.Error(err)
		}
	})
}

// write puts a record of somebody else into the topic.
func write(t *testing.T, c *broker.Cluster, key string, value []byte) {
	t.Helper()
	p, err := c.Producer(broker.ProducerOptions{ManualPartition: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Produce(t.Context(), broker.Record{Topic: settingstore.Topic, Key: []byte(key), Value: value}); err != nil {
		t.Fatal(err)
	}
}

// What cannot be read is named, and the rest is read.
func TestStore_ReadsTheOthers(t *testing.T) {
	good := gossip.EncodeChange(nil, change(9))
	newer := slices.Clone(good)
	newer[0] = 99
	for _, c := range []struct {
		name, key string
		value     []byte
		is        error
		says      string
	}{
		{"garbage", "1.1@x", []byte("garbage"), nil, "offset 2"},
		{"empty", "1.1@x", []byte{}, settingstore.ErrForeign, "offset 2"},
		{"a newer format", change(9).Version.String(), newer, gossip.ErrFormat, "upgrade"},
		{"cut", change(9).Version.String(), good[:len(good)-1], settingstore.ErrForeign, "offset 2"},
		{"more behind it", change(9).Version.String(), append(slices.Clone(good), 1), settingstore.ErrForeign, "1 bytes"},
		{"another key", "1.1@x", good, settingstore.ErrForeign, "1.1@x"},
		{"no key", "", good, settingstore.ErrForeign, "the key"},
		{"taken away", change(9).Version.String(), nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, 1)
				s := store(t, l.open())
				if err := s.Save(t.Context(), changes(0, 2)...); err != nil {
					t.Fatal(err)
				}
				write(t, l.open(), c.key, c.value)
				if err := s.Save(t.Context(), changes(2, 4)...); err != nil {
					t.Fatal(err)
				}
				switch err := holds(t, s, changes(0, 4)); {
				case c.says == "" && err != nil:
					t.Error(err)
				case c.says == "":
				case err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "cluster eu"):
					t.Errorf("the error is %v, want %q and the cluster in it", err, c.says)
				case c.is != nil && !errors.Is(err, c.is):
					t.Errorf("%v is not %v", err, c.is)
				}
			})
		})
	}
}

func TestStore_NamesFewOfManyFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 1)
		s := store(t, l.open())
		if err := s.Save(t.Context(), change(0)); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			write(t, l.open(), fmt.Sprint(i), []byte("garbage"))
		}
		if err := holds(t, s, changes(0, 1)); err == nil || len(err.Error()) > 4000 || !strings.Contains(err.Error(), "and 40 more records") {
			t.Errorf("50 records of garbage: %v", err)
		}
	})
}

// A topic that somebody deletes is made again.
func TestStore_OutlivesItsTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 1)
		s := store(t, l.open())
		if err := s.Save(t.Context(), change(0)); err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrDeleteTopicsRequest()
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = kmsg.StringPtr(settingstore.Topic)
		req.Topics, req.TopicNames, req.TimeoutMillis = append(req.Topics, topic), []string{settingstore.Topic}, 5000
		if err := l.ask(req); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context(), change(1)); err != nil {
			t.Fatal(err)
		}
		if err := holds(t, s, changes(1, 2)); err != nil {
			t.Error(err)
		}
	})
}

// Rights that are missing are said with the topic, at once.
func TestStore_SaysWhichRightIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 1)
		l.fake.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
			l.fake.KeepControl()
			resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
			topic := kmsg.NewCreateTopicsResponseTopic()
			topic.Topic, topic.ErrorCode = settingstore.Topic, kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, topic)
			return resp, nil, true
		})
		start := time.Now()
		err := store(t, l.open()).Save(t.Context(), change(0))
		if !errors.Is(err, kerr.TopicAuthorizationFailed) || !strings.Contains(err.Error(), settingstore.Topic) || !strings.Contains(err.Error(), "CREATE") {
			t.Errorf("the error is %v, want the topic and the right in it", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("that took %v", took)
		}
	})
}

// A cluster that is silent ends a call, and so does the caller.
func TestStore_DoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, Dial: hang})
		s := store(t, c)
		for name, call := range map[string]func(context.Context) error{
			"load": func(ctx context.Context) error { _, err := s.Load(ctx); return err },
			"save": func(ctx context.Context) error { return s.Save(ctx, change(0)) },
		} {
			start := time.Now()
			if err := call(t.Context()); err == nil || time.Since(start) > 31*time.Second {
				t.Errorf("%s from a silent cluster: %v after %v", name, err, time.Since(start))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start = time.Now()
			if err := call(ctx); err == nil || time.Since(start) > 1100*time.Millisecond {
				t.Errorf("%s for a caller with a second of time: %v after %v", name, err, time.Since(start))
			}
			cancel()
		}
		s.Close()
		if err := s.Save(t.Context(), change(0)); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("save after close: %v", err)
		}
	})
}

func TestStore_WorksInAnEmbeddedCluster(t *testing.T) {
	e, err := embedded.New(embedded.Config{Name: "eu", Listen: "127.0.0.1:0", Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.Run(context.Background()) }()
	t.Cleanup(func() {
		e.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s := store(t, open(t, broker.Profile{Name: "eu", Bootstrap: []string{e.Addr()}}))
	for range 2 {
		if err := s.Save(t.Context(), changes(0, 10)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := holds(t, s, changes(0, 10)); err != nil {
		t.Error(err)
	}
}

// hang is a dialer of a network that swallows everything.
func hang(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// ask sends a request as some client does.
func (l *lab) ask(req kmsg.Request) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(l.net.DialContext))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = cl.Request(l.t.Context(), req)
	return err
}
