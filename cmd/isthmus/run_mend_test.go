package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// oneWay are two embedded clusters, and a link between them.
const oneWay = `[fabric]
name = "two"
[[cluster]]
name = "eu"
embedded = { dir = "eu", listen = "127.0.0.1:0" }
[[cluster]]
name = "us"
embedded = { dir = "us", listen = "127.0.0.1:0" }
[[link]]
from = "eu"
to = "us"
topics = ["*"]
`

// produceMore writes n records to partition 0 of topic orders.
func produceMore(t *testing.T, c *broker.Cluster, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, err := c.Producer(broker.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range n {
		if _, err := p.Produce(ctx, broker.Record{Topic: "orders", Value: fmt.Append(nil, "more ", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRun_AnchorRetryDriftVerify: the verbs that look into a partition, and decide for it, against a node that runs.
func TestRun_AnchorRetryDriftVerify(t *testing.T) {
	r := start(t, "-c", writeFile(t, "two.toml", oneWay))
	eu, us := r.connect("eu"), r.connect("us")
	produceTo(t, eu, 100)
	eventually(t, "records at us", func() bool { return arrived(t, us, 100) })
	grpc := r.said(`"node started".* grpc=(\S+)`)
	ask := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := command(t.Context(), append(args, "--addr", grpc)...)
		if code != want {
			t.Fatalf("%s: exit %d, want %d; %q, %q", strings.Join(args, " "), code, want, out, errs)
		}
		return out
	}
	eventually(t, "all records proved identical", func() bool { // it compares what was acknowledged when it begins
		return strings.Contains(ask(exitOK, "verify", "eu-us"), "1 of 1 partition identical, 100 records")
	})
	if out := ask(exitOK, "drift", "eu-us"); !strings.Contains(out, "nothing differs") && !strings.Contains(out, "VERDICT") {
		t.Errorf("drift tells\n%s", out)
	}
	if out := ask(exitOK, "retry", "eu-us", "orders:0"); !strings.Contains(out, "nothing of it waits") {
		t.Errorf("retry of what runs tells\n%s", out)
	}

	// A pause holds the place still, so that what was told is what is done.
	ask(exitOK, "pause", "eu-us", "orders:0", "--why", "to look")
	eventually(t, "a paused partition", func() bool { return strings.Contains(ask(exitOK, "status"), "orders:0 paused: ") })
	if out := ask(exitOK, "status"); !strings.Contains(out, "(manual; ") || !strings.Contains(out, "you can: isthmus resume eu-us orders:0") {
		t.Errorf("status does not say why and what to do:\n%s", out)
	}
	produceMore(t, eu, 10)
	var dry struct {
		Before, After, Lost, Doubled int64
		Confirm                      string
	}
	if err := json.Unmarshal([]byte(ask(exitOK, "anchor", "eu-us", "orders:0", "--at", "end", "--why", "not wanted", "--dry-run", "--json")), &dry); err != nil {
		t.Fatal(err)
	}
	if dry.Before != 100 || dry.After != 110 || dry.Lost != 10 || dry.Doubled != 0 || dry.Confirm == "" {
		t.Errorf("the dry run tells %+v, want 10 records lost from 100 to 110", dry)
	}
	if out := ask(exitOK, "ledger"); !strings.Contains(out, "the ledger is empty") {
		t.Errorf("the dry run wrote\n%s", out)
	}
	produceMore(t, eu, 3) // these came later than what was told: they are copied
	ask(exitOK, "anchor", "eu-us", "orders:0", "--at", "end", "--why", "not wanted", "--confirm", dry.Confirm)
	if out := ask(exitOK, "ledger", "--reason", "anchored"); !strings.Contains(out, "orders:0   100-109  10       anchored") || !strings.Contains(out, "1 entry: 10 records") {
		t.Errorf("the ledger has\n%s", out)
	}
	ask(exitRefused, "anchor", "eu-us", "orders:0", "--at", "end", "--why", "again", "--confirm", dry.Confirm)
	if out := ask(exitOK, "verify", "eu-us", "orders"); !strings.Contains(out, "1 of 1 partition identical, 100 records") {
		t.Errorf("before anything is copied behind the anchor, verify tells\n%s", out)
	}
	ask(exitOK, "resume", "eu-us")
	eventually(t, "the records behind the anchor at us", func() bool { return arrived(t, us, 103) })
	eventually(t, "all records proved identical but what the ledger has", func() bool {
		out := ask(exitOK, "verify", "eu-us", "orders")
		return strings.Contains(out, "1 of 1 partition identical, 103 records") && strings.Contains(out, "note: orders:0: ")
	})
	ask(exitUsage, "anchor", "eu-us", "orders:0", "--at", "100000", "--why", "too far", "--dry-run")
	ask(exitFailed, "anchor", "eu-us", "orders:7", "--at", "end", "--why", "no such", "--dry-run")
	ask(exitFailed, "verify", "eu-mars")
	ask(exitFailed, "drift", "eu-mars")
	ask(exitFailed, "retry", "eu-us", "mars")
}
