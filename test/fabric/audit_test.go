package fabric

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// liar is a connection whose reader sees other bytes than were sent.
type liar struct {
	net.Conn
	old, new []byte
}

func (l *liar) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	for at := bytes.Index(b[:n], l.old); at >= 0; at = bytes.Index(b[:n], l.old) {
		copy(b[at:n], l.new)
	}
	return n, err
}

// produce writes one record to the first partition, as it is.
func produce(t *testing.T, f *Fabric, cluster, topic, value string) {
	t.Helper()
	c := f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// counters sums up metrics by their names.
func counters(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// What a target gives back other than it was written is found within seconds; the partition runs on, its neighbour is not
// touched, and a verification of the range says what it is.
func TestAudit_FindsWhatTheTargetGivesBackChanged(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "other"}, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
		reg := prometheus.NewRegistry()
		n := f.Run("n1", func(d *mirror.SetDeps) {
			d.Metrics = mirror.NewMetrics(reg, 100)
			open := d.Open
			d.Open = func(c topology.Cluster) (*broker.Cluster, error) {
				if c.Name != "us" {
					return open(c)
				}
				p, err := broker.NewProfile(c)
				if err != nil {
					return nil, err
				}
				p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := f.Dial(ctx, network, address)
					if err != nil {
						return nil, err
					}
					return &liar{conn, []byte("planted-marker"), []byte("planted-Marker")}, nil
				}
				return broker.Open(p, slog.New(slog.DiscardHandler))
			}
		})
		defer n.Stop()
		steady := flowing(t, f, log, "other", 1)
		defer steady()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Rate: 100, Size: 60, Compression: "none"})
		produce(t, f, "eu", "orders", "here is a planted-marker in a value")
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Rate: 100, Size: 60, Seed: 1, Compression: "none"})
		link := n.Set.Status()[0].Name
		var found []mirror.AuditFinding
		eventually(t, time.Minute, "the audit finds it", func() bool {
			_, all, err := n.Set.Audit(link)
			if err != nil {
				t.Fatal(err)
			}
			found = all
			return len(all) == 1
		})
		if d := found[0]; d.Pump.Topic != "orders" || d.From > 100 || d.To <= 100 || d.Difference.Kind != mirror.DifferenceChanged {
			t.Errorf("found %v, want a changed record at offset 100 of orders", d)
		}
		p := pumps(n, "orders")[0]
		if p.State != mirror.StateRunning || p.Cause != mirror.CauseAudit || !strings.Contains(p.Reason, "isthmus verify "+link+" orders") {
			t.Errorf("the partition is %s, %q: %s", p.State, p.Cause, p.Reason)
		}
		if p := pumps(n, "other")[0]; p.Cause != "" {
			t.Errorf("the neighbour is %s, %q: %s", p.State, p.Cause, p.Reason)
		}
		m := counters(t, reg)
		if m["isthmus_mirror_audit_mismatch_total"] != 1 || m["isthmus_mirror_audited_records_total"] < 100 || m["isthmus_mirror_audited_bytes_total"] < 1000 {
			t.Errorf("metrics %v", m)
		}
		r, err := n.Set.Verify(t.Context(), mirror.VerifyRequest{Link: link, Topic: "orders", From: found[0].From, To: found[0].To}, nil)
		if err != nil || r.Identical() {
			t.Errorf("verify: %+v, %v", r, err)
		}
	})
}

// Nothing is found where nothing is wrong, and what moves is read back: of every topic, and only a small part of much traffic.
func TestAudit_ReadsBackALittleOfEverything(t *testing.T) {
	scenario(t, Options{Topics: []string{"busy", "calm"}, Partitions: 2}, func(t *testing.T, f *Fabric, log *judge.Log) {
		reg := prometheus.NewRegistry()
		n := f.Run("n1", func(d *mirror.SetDeps) { d.Metrics = mirror.NewMetrics(reg, 100) })
		defer n.Stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			write(t, f, log, "eu",
				judge.Load{Topic: "busy", Partitions: 2, Records: 100_000, Rate: 2000, Size: 1000, Compression: "none", Seed: 1},
				judge.Load{Topic: "calm", Partitions: 2, Records: 50, Rate: 1, Size: 60, Seed: 2})
		}()
		<-done
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Minute)
		windows, found, err := n.Set.Audit(n.Set.Status()[0].Name)
		if err != nil || len(found) > 0 {
			t.Errorf("found %v, %v", found, err)
		}
		topics := make(map[string]int64)
		for _, w := range windows {
			if w.Source != w.Target || w.Source.Records == 0 || w.Mismatches > 0 || w.Reformed > 0 || w.Copied < 0 {
				t.Errorf("window %+v", w)
			}
			topics[w.Topic] += w.Source.Records
		}
		if topics["busy"] == 0 || topics["calm"] == 0 {
			t.Errorf("read back were %v", topics)
		}
		m := counters(t, reg)
		share := m["isthmus_mirror_audited_bytes_total"] / m["isthmus_mirror_bytes_total"]
		t.Logf("%.2f %% of the bytes were read back, %v records", share*100, topics)
		if share > 0.0075 { // of what came in and went out; it is a hundredth of what went out
			t.Errorf("%.2f %% of the bytes were read back", share*100)
		}
		if m["isthmus_mirror_audit_age_seconds"] != 0 {
			t.Errorf("something has waited for %v s to be read back", m["isthmus_mirror_audit_age_seconds"])
		}
	})
}
