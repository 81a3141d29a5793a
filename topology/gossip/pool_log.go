package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// libraryLog writes memberlist's lines as records with a constant message. It says much in a storm, so warnings are limited.
type libraryLog struct {
	log   *slog.Logger
	limit *limiter
}

func (w libraryLog) Write(line []byte) (int, error) {
	text := bytes.TrimSpace(line)
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn, "[WARN] ": slog.LevelDebug, "[INFO] ": slog.LevelDebug, "[DEBUG] ": slog.LevelDebug} {
		if rest, ok := bytes.CutPrefix(text, []byte(prefix)); ok {
			text, level = rest, l
			break
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	if level > slog.LevelDebug && !w.limit.ok(string(text[:min(len(text), 24)])) {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, "membership", "detail", string(text))
	return len(line), nil
}

// limiter lets one event for each key pass in a minute.
type limiter struct {
	now func() time.Time
	mu  sync.Mutex
	at  map[string]time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, at: make(map[string]time.Time)}
}

// limiterKeys bounds the memory: whoever makes up more senders than that is heard of once a minute all the same.
const limiterKeys = 1024

func (l *limiter) ok(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Sub(l.at[key]) < time.Minute {
		return false
	}
	if len(l.at) >= limiterKeys {
		for k, at := range l.at {
			if now.Sub(at) >= time.Minute {
				delete(l.at, k)
			}
		}
		if len(l.at) >= limiterKeys {
			return false
		}
	}
	l.at[key] = now
	return true
}
