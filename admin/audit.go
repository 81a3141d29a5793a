package admin

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// deed is what somebody did, or wanted to.
type deed struct {
	who               caller
	from              string // address; empty: of the call that was let in
	verb, target, why string
	version, note     string
	outcome           string // such as planned; empty: done
}

// audit writes a line for each write and each refusal. The log is append-only; what was written is in the history of the settings too.
type audit struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	second int64
	count  int
	hidden int // refusals that were not written since the last line of one
}

// maxRefusals a second are written one by one: who is not known must not fill the log.
const maxRefusals = 20

// done writes what became of a write.
func (a *audit) done(ctx context.Context, d deed, err error) {
	attrs := append(d.attrs(), slog.String("outcome", d.became(err)))
	if err != nil {
		attrs = append(attrs, slog.String("error", clip(err.Error())))
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "audit", attrs...)
}

// refused writes that somebody was not let in, or has not got the right.
func (a *audit) refused(ctx context.Context, d deed, err error) {
	a.mu.Lock()
	if s := a.now().Unix(); s != a.second {
		a.second, a.count = s, 0
	}
	a.count++
	if a.count > maxRefusals {
		a.hidden++
		a.mu.Unlock()
		return
	}
	hidden := a.hidden
	a.hidden = 0
	a.mu.Unlock()
	attrs := append(d.attrs(), slog.String("outcome", "refused"), slog.String("error", clip(err.Error())))
	if hidden > 0 {
		attrs = append(attrs, slog.Int("refusals_not_written", hidden))
	}
	a.log.LogAttrs(ctx, slog.LevelWarn, "audit", attrs...)
}

func (d deed) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("who", cmp.Or(d.who.name, "nobody")), slog.String("verb", strings.ToLower(d.verb))}
	for _, a := range []slog.Attr{
		slog.String("from", d.from), slog.String("node", d.who.peer), slog.String("target", clip(d.target)), slog.String("why", d.why),
		slog.String("version", d.version), slog.String("note", d.note),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return attrs
}

func (d deed) became(err error) string {
	switch {
	case err != nil:
		return "failed"
	case d.outcome != "":
		return d.outcome
	}
	return "done"
}

// clip keeps what a caller chose from filling the log.
func clip(text string) string {
	const most = 500
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
