package admin

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestAudit_RefusalsDoNotFillTheLog(t *testing.T) {
	book, hand := &logbook{}, newHand()
	a := &audit{log: slog.New(slog.NewTextHandler(book, nil)), now: hand.now}
	bad := errors.New(strings.Repeat("x", 10_000))
	for range 1000 {
		a.refused(context.Background(), deed{verb: "Status", target: strings.Repeat("y", 10_000)}, bad)
	}
	if lines := strings.Count(book.String(), "\n"); lines != maxRefusals || len(book.String()) > maxRefusals*1500 {
		t.Errorf("%d lines and %d bytes were written", lines, len(book.String()))
	}
	hand.move(time.Second)
	a.refused(context.Background(), deed{who: caller{name: "ana", peer: "b"}, verb: "Status"}, bad)
	last := book.String()[strings.LastIndex(strings.TrimSpace(book.String()), "\n")+1:]
	for _, want := range []string{"refusals_not_written=980", "who=ana", "node=b", "verb=status", "outcome=refused"} {
		if !strings.Contains(last, want) {
			t.Errorf("the next line has no %s: %s", want, last)
		}
	}
}
