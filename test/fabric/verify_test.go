package fabric

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// identical asks the audit, verifies everything of the node's links and fails the test if anything is different, or less than least records
// were compared. It returns all notes.
func identical(t *testing.T, n *Node, least int64) (notes string) {
	t.Helper()
	var records int64
	for _, l := range n.Set.Status() {
		if _, found, err := n.Set.Audit(l.Name); err != nil || len(found) > 0 {
			t.Errorf("the audit of %s: %v, %v", l.Name, found, err)
		}
		r, err := n.Set.Verify(t.Context(), mirror.VerifyRequest{Link: l.Name, From: -1, To: -1, ByteRate: -1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Partitions {
			if p.Difference != nil || p.Failed != "" {
				t.Errorf("%s %s:%d: %v %s, after source offset %d; notes %+v", l.Name, p.Topic, p.Partition, p.Difference, p.Failed, p.To, p.Notes)
			}
			for _, note := range p.Notes {
				notes += fmt.Sprintf("%s:%d %+v\n", p.Topic, p.Partition, note)
			}
			records += p.Records
		}
	}
	if records < least {
		t.Errorf("only %d records were compared, want %d", records, least)
	}
	return notes
}

// What links copied is identical, whatever kind of history it is.
func TestVerify_CleanHistories(t *testing.T) {
	setting := func(kv ...string) map[string]*string {
		m := make(map[string]*string)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = &kv[i+1]
		}
		return m
	}
	const n = 1200
	for name, tc := range map[string]struct {
		source, target map[string]*string // settings of the topic; target nil = made by the mirror
		load           judge.Load
		notes          string
	}{
		"plain":                 {load: judge.Load{Compression: "snappy", Headers: true}},
		"small batches, merged": {load: judge.Load{Compression: "none", BatchBytes: 600}},
		"transactions":          {load: judge.Load{Compression: "snappy", Transaction: 17}},
		"the broker's own times": {source: setting("message.timestamp.type", "LogAppendTime"), target: setting("message.timestamp.type", "CreateTime"),
			load: judge.Load{Compression: "snappy"}},
		"batches that are split": {target: setting("max.message.bytes", "2000"), load: judge.Load{Compression: "none", Linger: 100 * time.Millisecond}},
		"a target that recompresses": {target: setting("compression.type", "uncompressed"),
			load: judge.Load{Compression: "snappy", Linger: 50 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, Options{Topics: []string{"unused"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
				createTopic(t, f, "eu", "orders", 2, tc.source)
				if tc.target != nil {
					createTopic(t, f, "us", "orders", 2, tc.target)
				}
				tc.load.Topic, tc.load.Partitions, tc.load.Records, tc.load.Size = "orders", 2, n, 100
				node := f.Start("n1")
				defer node.Stop()
				write(t, f, log, "eu", tc.load)
				if err := CaughtUp(time.Minute, node); err != nil {
					t.Fatal(err)
				}
				committed := int64(holds(t, f, "us", "orders"))
				if committed < n/2 {
					t.Fatalf("%d records on the target", committed)
				}
				if notes := identical(t, node, committed); notes != "" {
					t.Errorf("notes: %s", notes)
				}
			})
		})
	}
}

// Both sides write, two unaware owners copy under faults, and each link's records are verified on their own.
func TestVerify_BothWaysUnderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Topics: topics, Brokers: 2, Seed: 5, Verbose: testing.Verbose()})
		defer f.Close()
		a, b := f.Start("n0"), f.Start("n1")
		log := judge.NewLog()
		written := make(chan struct{})
		go func() {
			everywhere(t, f, log, 2000, 300)
			close(written)
		}()
		time.Sleep(2 * time.Second)
		a.Kill()
		a = f.Start("n0")
		time.Sleep(time.Second)
		b.Paths["us"].Reset()
		b.Paths["eu"].Slow(100*time.Millisecond, 50*time.Millisecond, 200_000)
		<-written
		b.Stop()
		defer a.Stop()
		if err := CaughtUp(3*time.Minute, a); err != nil {
			t.Fatal(err)
		}
		identical(t, a, 2*2000)
		verdict(t, f, judge.Case{Topics: topics, Log: log})
	})
}

// What cleaners and retention took from either side is noted, and no difference.
func TestVerify_CleanedAndDeleted(t *testing.T) {
	compact := "compact"
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
		createTopic(t, f, "eu", "prices", 1, map[string]*string{"cleanup.policy": &compact})
		n := f.Start("n1")
		defer n.Stop()
		write(t, f, log, "eu",
			judge.Load{Topic: "orders", Partitions: 1, Records: 1000, Size: 60, Seed: 1},
			judge.Load{Topic: "prices", Partitions: 1, Records: 1000, Size: 60, Keys: 50, Rate: 400, Seed: 2})
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for cluster, at := range map[string]int64{"eu": 100, "us": 300} {
			deleteRecords(t, f, cluster, "orders", at)
		}
		for _, name := range []string{"us", "eu"} {
			f.Clusters[name].Compact()
			notes := identical(t, n, 700)
			t.Logf("after compaction of %s, %d and %d records of prices:\n%s", name, holds(t, f, "eu", "prices"), holds(t, f, "us", "prices"), notes)
			if !strings.Contains(notes, "From:100 To:300 Records:-1 Why:no longer on the target") {
				t.Errorf("the notes do not say that target offsets to 300 are gone:\n%s", notes)
			}
			// What replaced the records of this part comes after it.
			r, err := n.Set.Verify(t.Context(), mirror.VerifyRequest{Link: n.Set.Status()[0].Name, Topic: "prices", From: -1, To: 100, ByteRate: -1}, nil)
			if err != nil || !r.Identical() {
				t.Errorf("a part of what was cleaned: %+v, %v", r, err)
			}
			if name == "us" && !strings.Contains(notes, "cleaned away on the target") {
				t.Errorf("the notes do not say that the target was cleaned:\n%s", notes)
			}
		}
	})
}

func deleteRecords(t *testing.T, f *Fabric, cluster, topic string, before int64) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		var o kadm.Offsets
		o.AddOffset(topic, 0, before, -1)
		r, err := a.DeleteRecords(ctx, o)
		if err == nil {
			err = r.Error()
		}
		return err
	})
}

// A part of a log, a live link, another node than the one that copies, and what there is not.
func TestVerify_Asked(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: `start = "latest"`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 500, Size: 60, Seed: 1})
		n := f.Start("n1")
		defer n.Stop()
		time.Sleep(5 * time.Second)
		stop := flowing(t, f, log, "orders", 2)
		time.Sleep(10 * time.Second)
		var said []mirror.VerifyProgress
		r, err := n.Set.Verify(t.Context(), mirror.VerifyRequest{Link: n.Set.Status()[0].Name, Topic: "orders", From: -1, To: -1, ByteRate: 20_000}, func(p mirror.VerifyProgress) { said = append(said, p) })
		if err != nil || !r.Identical() || r.Records < 600 || len(r.Partitions) != 2 {
			t.Errorf("a live link: %+v, %v", r, err)
		}
		if len(said) < 2 || said[len(said)-1].Fraction != 1 || said[0].Fraction >= 1 {
			t.Errorf("progress %+v", said)
		}
		stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		p := r.Partitions[0]
		from := p.From + 17
		again, err := n.Set.Verify(t.Context(), mirror.VerifyRequest{Link: r.Link, Topic: "orders", Partitions: []int32{0}, From: from, To: from + 101, ByteRate: -1}, nil)
		if err != nil || !again.Identical() || again.Records != 101 || again.Partitions[0].From != from || again.Partitions[0].To != from+101 {
			t.Errorf("a part: %+v, %v", again, err)
		}
		for _, bad := range []mirror.VerifyRequest{{Link: "none", From: -1, To: -1}, {Link: r.Link, Topic: "none", From: -1, To: -1},
			{Link: r.Link, Topic: "orders", Partitions: []int32{7}, From: -1, To: -1}, {Link: r.Link, From: 9, To: 3}} {
			if _, err := n.Set.Verify(t.Context(), bad, nil); err == nil {
				t.Errorf("%+v is no error", bad)
			}
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := n.Set.Verify(ended, mirror.VerifyRequest{Link: r.Link, From: -1, To: -1}, nil); err == nil {
			t.Error("a verification that was ended is no error")
		}
	})
}

// open is a cluster as the mirror's own code sees it.
func open(t *testing.T, f *Fabric, name string) *broker.Cluster {
	t.Helper()
	for _, spec := range f.Topology.Clusters {
		if spec.Name != name {
			continue
		}
		p, err := broker.NewProfile(spec)
		if err != nil {
			t.Fatal(err)
		}
		p.Dial = f.Dial
		c, err := broker.Open(p, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	t.Fatalf("no cluster %s", name)
	return nil
}

// written is a partition's batches, and who wrote them.
func written(t *testing.T, c *broker.Cluster, topic string) (all []batch.Record, id int64) {
	t.Helper()
	for at := int64(0); ; {
		frame, err := c.FetchOnce(t.Context(), topic, 0, at, 8<<20, false)
		if err != nil {
			t.Fatal(err)
		}
		before := at
		for raw := frame.Partitions[0].Batches; len(raw) > 0; {
			h, one, rest, err := batch.Next(raw)
			if err != nil {
				break
			}
			records, err := batch.Decode(one, 8<<20)
			if err != nil {
				t.Fatal(err)
			}
			all, raw, at, id = append(all, records...), rest, h.NextOffset(), h.ProducerID
		}
		frame.Release()
		if at == before {
			return all, id
		}
	}
}

// produceRaw writes records under a producer id that is not ours to use.
func produceRaw(t *testing.T, c *broker.Cluster, topic string, id int64, records []batch.Record) {
	t.Helper()
	m, err := c.Metadata(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.ProduceConn(t.Context(), m.Brokers[m.Topics[topic].Partitions[0].Leader])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sequence := int32(0)
	for part := range slices.Chunk(records, 50) {
		raw, err := batch.Encode(nil, part, batch.Snappy, batch.Stamp{ProducerID: id, Sequence: sequence})
		if err != nil {
			t.Fatal(err)
		}
		sequence += int32(len(part))
		if err := conn.Send(t.Context(), []broker.ProduceBatch{{Topic: topic, TopicID: m.Topics[topic].ID, Bytes: raw}}); err != nil {
			t.Fatal(err)
		}
		if r, err := conn.Recv(t.Context()); err != nil || r[0].Err != nil {
			t.Fatal(err, r)
		}
	}
}

// What is done to a target behind the mirror's back is found, and named.
func TestVerify_FindsWhatWasPlanted(t *testing.T) {
	const i = 333
	flip := func(b []byte) []byte {
		b = slices.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	for name, plant := range map[string]func(rs []batch.Record) []batch.Record{
		"missing":         func(rs []batch.Record) []batch.Record { return slices.Delete(rs, i, i+1) },
		"doubled":         func(rs []batch.Record) []batch.Record { return slices.Insert(rs, i, rs[i]) },
		"swapped":         func(rs []batch.Record) []batch.Record { rs[i], rs[i+1] = rs[i+1], rs[i]; return rs },
		"extra":           func(rs []batch.Record) []batch.Record { return slices.Insert(rs, i, batch.Record{Key: []byte("?")}) },
		"changed key":     func(rs []batch.Record) []batch.Record { rs[i].Key = flip(rs[i].Key); return rs },
		"changed value":   func(rs []batch.Record) []batch.Record { rs[i].Value = flip(rs[i].Value); return rs },
		"changed time":    func(rs []batch.Record) []batch.Record { rs[i].Timestamp++; return rs },
		"changed headers": func(rs []batch.Record) []batch.Record { rs[i].Headers = rs[i].Headers[:0]; return rs },
		"":                func(rs []batch.Record) []batch.Record { return rs },
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
				n := f.Start("n1")
				write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 800, Size: 60, Headers: true})
				if err := CaughtUp(time.Minute, n); err != nil {
					t.Fatal(err)
				}
				n.Stop()
				us := open(t, f, "us")
				all, id := written(t, us, "orders")
				admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
					_, err := a.DeleteTopic(ctx, "orders")
					return err
				})
				createTopic(t, f, "us", "orders", 1, nil)
				planted := plant(slices.Clone(all))
				produceRaw(t, us, "orders", id, planted)
				n = f.Start("n2")
				defer n.Stop()
				eventually(t, 20*time.Second, "the pump is there", func() bool { return len(pumps(n, "orders")) == 1 })
				r, err := n.Set.Verify(t.Context(), mirror.VerifyRequest{Link: n.Set.Status()[0].Name, From: -1, To: -1}, nil)
				if err != nil || len(r.Partitions) != 1 {
					t.Fatal(err, r)
				}
				p := r.Partitions[0]
				if p.Failed != "" || len(p.Notes) != 1 || !strings.Contains(p.Notes[0].Why, "created again") {
					t.Errorf("failed %q, notes %+v", p.Failed, p.Notes)
				}
				kind, _, _ := strings.Cut(name, " ")
				switch {
				case kind == "" && p.Difference != nil:
					t.Errorf("found %v where nothing was planted", p.Difference)
				case kind == "":
				case p.Difference == nil:
					t.Errorf("nothing was found")
				case p.Difference.Kind != kind || p.Difference.Source >= 0 && p.Difference.Source != i:
					t.Errorf("found %v, want %s at source offset %d", p.Difference, kind, i)
				}
			})
		})
	}
}

// A node that does not copy a partition verifies it by what is durable, and so does a process that has just begun.
func TestVerify_ByAnotherNode(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 4}, func(t *testing.T, f *Fabric, log *judge.Log) {
		team := f.Share(Only("n1"), "n1", "n2")
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 4, Records: 1000, Rate: 500, Size: 60, Transaction: 7})
		time.Sleep(5 * time.Second)
		n := int64(holds(t, f, "us", "orders"))
		identical(t, team.Node("n2"), n)
		team.Stop()
		again := f.Start("n3")
		defer again.Stop()
		eventually(t, 20*time.Second, "the partitions are there", func() bool { return len(pumps(again, "orders")) == 4 })
		identical(t, again, n)
	})
}
