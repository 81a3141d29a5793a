package mirror

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTelling_OneLineAMinute(t *testing.T) {
	var told telling
	now, lines, left := time.UnixMilli(1_700_000_000_000), 0, 0
	for range 601 { // ten minutes, a trouble each second
		if n, ok := told.next(now); ok {
			lines, left = lines+1, left+n
		}
		now = now.Add(time.Second)
	}
	if lines != 11 || lines+left != 601 {
		t.Errorf("%d lines that tell of %d others in ten minutes, want 11 of 590", lines, left)
	}
}

// A clock that is set back does not keep the log from hearing of anything for as long.
func TestTelling_ClockSetBack(t *testing.T) {
	var told telling
	now := time.UnixMilli(1_700_000_000_000)
	if _, ok := told.next(now); !ok {
		t.Fatal("the first line is left out")
	}
	if _, ok := told.next(now.Add(-time.Hour)); !ok {
		t.Error("the log hears nothing for an hour")
	}
}

// Every partition of a topic that stands before a record over a limit asks every few seconds; the log hears of what comes of it once a minute.
func TestRaises_OneLineAMinute(t *testing.T) {
	b := newBench(t)
	var out bytes.Buffer
	b.link.log = slog.New(slog.NewTextHandler(&out, nil))
	due := []work{{noteKey{kind: DriftConfig, topic: "orders"}, []judged{{name: "max.message.bytes", source: item{"2000000", true}, outcome: outcome{do: doSet}}}}}
	for range 40 { // two minutes
		b.link.tellTo(b.pump.flow.raiseLog(b.now), DriftConfig, due, nil)
		b.now = b.now.Add(3 * time.Second)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines in two minutes:\n%s", n, out.String())
	}
}
