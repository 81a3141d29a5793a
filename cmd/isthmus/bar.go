package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// barWidth is that of a full bar.
const barWidth = 30

// bar shows how far something is, on a terminal alone: on the error stream, so that what is found can go elsewhere.
type bar struct {
	out   io.Writer
	live  bool // a terminal
	begun time.Time
	now   func() time.Time
	shown bool
}

func newBar(t terminal) *bar {
	return &bar{out: t.err, live: isTerminal(t.err) && t.env("TERM") != "dumb", begun: time.Now(), now: time.Now}
}

// show draws over what it drew before.
func (b *bar) show(p *adminpb.VerifyProgress, different int) {
	if b.live {
		b.shown = true
		fmt.Fprint(b.out, "\r"+barText(p, different, b.now().Sub(b.begun))+"\x1b[K")
	}
}

// clear takes the bar away.
func (b *bar) clear() {
	if b.shown {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// barText is a bar on one line: how much, how fast, how long still, and whether something was found.
func barText(p *adminpb.VerifyProgress, different int, took time.Duration) string {
	done := min(1, max(0, p.GetFraction()))
	full := int(done * barWidth)
	text := fmt.Sprintf("[%s%s] %3.0f%%  %d/%d partitions  %d records", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), done*100,
		p.GetDone(), p.GetPartitions(), p.GetRecords())
	if s := took.Seconds(); s >= 1 {
		text += fmt.Sprintf("  %s/s", size(int64(float64(p.GetBytes())/s)))
		if done > 0 && done < 1 {
			text += "  " + age(float64(int64(s/done-s))) + " left"
		}
	}
	if different > 0 {
		text += fmt.Sprintf("  %d DIFFERENT", different)
	}
	return text
}
