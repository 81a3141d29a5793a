package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// limitsStand reports whether the limits for which records would be left out are the target's now, and as high as the source's where the
// link follows them. Else what was told of the source a moment ago would cost records that the target takes a moment later.
func (l *Link) limitsStand(ctx context.Context, f *flow, cause Cause) (bool, error) {
	if cause != CauseLarge && cause != CauseLate && cause != CauseEarly {
		return true, nil
	}
	source, err := l.from.TopicConfigs(ctx, f.topic)
	if err != nil {
		return false, fmt.Errorf("compare the limits of topic %s before records are left out: %w", f.topic, err)
	}
	target, err := l.to.TopicConfigs(ctx, f.target())
	if err != nil {
		return false, fmt.Errorf("compare the limits of topic %s before records are left out: %w", f.topic, err)
	}
	raises := compareConfigs(f.first().named(), l.terms().Keeps, l.merging(false), source[f.topic], target[f.target()]).decided
	raises = slices.DeleteFunc(raises, func(j judged) bool { return j.do != doSet })
	if len(raises) > 0 {
		due := []work{{noteKey{kind: DriftConfig, topic: f.first().named()}, raises}}
		refused, err := l.changeConfigs(ctx, false, due)
		if err != nil {
			return false, err
		}
		l.tellTo(f.raiseLog(l.now()), DriftConfig, due, refused)
		if len(refused) < len(raises) {
			l.poke()
			return false, nil
		}
	}
	was, now := f.limits(), limitsOf(f.target(), source[f.topic], target[f.target()], 0, 0)
	if was.maxBytes != now.maxBytes || was.afterMax != now.afterMax || was.beforeMax != now.beforeMax {
		f.rejudge()
		l.poke()
		return false, nil
	}
	return true, nil
}

// raiseLog is where it is said that limits were raised: the log, or nothing while it has just heard of the topic. Each partition of it that
// stands before such a record asks every few seconds.
func (f *flow) raiseLog(now time.Time) *slog.Logger {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.raised.next(now); !ok {
		return slog.New(slog.DiscardHandler)
	}
	return f.link.log
}
