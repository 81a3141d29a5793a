package fabric

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// troubleNotes reads what us holds of troubles: how many notes were written, and how many of them stand.
func troubleNotes(t *testing.T, f *Fabric) (written, stand int) {
	t.Helper()
	spec, _ := f.Topology.Cluster("us")
	p, err := broker.NewProfile(spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Dial = f.Dial
	c, err := broker.Open(p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	there := make(map[string]bool)
	for partition := range int32(4) {
		err := c.ReadRange(t.Context(), "__isthmus.checkpoints", partition, 0, -1, false, func(r broker.Record) error {
			if len(r.Key) > 1 && r.Key[1] == 't' {
				written++
				there[string(r.Key)] = r.Value != nil
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range there {
		if v {
			stand++
		}
	}
	return written, stand
}

// denied has us refuse records of a topic, and counts how often it was asked to take some.
func denied(f *Fabric, topic string) (tries *atomic.Int64, lift func()) {
	us, tries := f.Clusters["us"], new(atomic.Int64)
	id := us.TopicInfo(topic).TopicID
	us.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		us.KeepControl()
		for _, t := range req.(*kmsg.ProduceRequest).Topics {
			if t.Topic == topic || t.TopicID == id {
				tries.Add(1)
			}
		}
		return nil, nil, false
	})
	fault := us.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	return tries, fault.Remove
}

// TestTrouble_OutlivesItsOwner: what is wrong with a partition, since when, and how often it was tried is told by the next owner too, after a kill -9,
// whatever its clock says.
func TestTrouble_OutlivesItsOwner(t *testing.T) {
	for _, shift := range []time.Duration{-time.Hour, 0, time.Hour} {
		for _, cause := range []mirror.Cause{mirror.CauseRights, mirror.CauseRecreated} {
			t.Run(fmt.Sprintf("%s, clock %s", cause, shift), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { outlives(t, cause, shift) })
			})
		}
	}
}

func outlives(t *testing.T, cause mirror.Cause, shift time.Duration) {
	clock := func() time.Time { return time.Now().Add(shift) }
	f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"}, Partitions: 1,
		Verbose: testing.Verbose(), Change: func(node string, d *mirror.SetDeps) {
			if node == "n2" {
				d.Now = clock
			}
		}})
	defer f.Close()
	team := f.Share(Only("n1"), "n1", "n2")
	defer team.Stop()
	log := judge.NewLog()
	write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 50, Size: 80})
	arrives(t, f, "orders", 50, time.Minute)
	lift := func() {}
	if cause == mirror.CauseRights {
		_, lift = denied(f, "orders")
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 50, Size: 80, Seed: 2})
	} else {
		admin(t, f, "eu", func(ctx context.Context, a *kadm.Client) error { _, err := a.DeleteTopics(ctx, "orders"); return err })
		createTopic(t, f, "eu", "orders", 1, nil)
	}
	eventually(t, time.Minute, "the partition is in trouble", func() bool { return stateOf(team, "orders", 0).Cause == cause })
	time.Sleep(time.Minute)
	was := stateOf(team, "orders", 0)
	time.Sleep(20 * time.Second) // so long it may take until that is noted
	team.Kill("n1")
	team.Move(Only("n2"), 0)
	eventually(t, 10*time.Second, "the next owner tells the trouble", func() bool { return stateOf(team, "orders", 0).Cause == cause })
	is := stateOf(team, "orders", 0)
	if is.Attempts < was.Attempts || is.Since.After(clock()) || shift >= 0 && is.Since.After(was.Since) {
		t.Errorf("the next owner says %d attempts since %v, by its clock it is %v; the one before said %d since %v", is.Attempts, is.Since, clock(), was.Attempts, was.Since)
	}
	if wait := is.NextTry.Sub(clock()); wait > 45*time.Second {
		t.Errorf("it is to be tried again in %v", wait)
	}
	if _, stand := troubleNotes(t, f); stand != 1 {
		t.Errorf("%d notes stand, want 1", stand)
	}
	if cause != mirror.CauseRights {
		return
	}
	lift()
	arrives(t, f, "orders", 100, time.Minute)
	time.Sleep(time.Minute)
	if written, stand := troubleNotes(t, f); stand != 0 || written > 20 {
		t.Errorf("%d notes stand of %d, of a partition that runs", stand, written)
	}
	verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
}

// TestTrouble_AProcessThatDiesAgainAndAgainTriesNoMoreOften: each life goes on waiting where the one before was killed.
func TestTrouble_AProcessThatDiesAgainAndAgainTriesNoMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"}, Partitions: 1, Verbose: testing.Verbose()})
		defer f.Close()
		n := f.Start("n1")
		defer func() { n.Stop() }()
		log := judge.NewLog()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 50, Size: 80})
		arrives(t, f, "orders", 50, time.Minute)
		tries, lift := denied(f, "orders")
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 50, Size: 80, Seed: 2})
		time.Sleep(2 * time.Minute)
		const lives = 30
		tries.Store(0)
		for range lives {
			n.Kill()
			n = f.Start("n1")
			time.Sleep(4 * time.Second)
		}
		if got := tries.Load(); got < 2 || got > lives*2/3 { // it waits for 7.5 to 22.5 seconds, a life has four
			t.Errorf("%d tries in %d lives of four seconds", got, lives)
		}
		lift()
		arrives(t, f, "orders", 100, time.Minute)
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}
