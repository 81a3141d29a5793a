package embedded

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

// kfakeLog passes kfake's log on and listens to it: kfake tells nobody else
// that the disk did not take a write, and it tells so before the response to
// the request that caused it leaves.
type kfakeLog struct {
	log     *slog.Logger
	storage *storage
	count   *counters
}

// lostWrites are the beginnings of what kfake logs when a write was lost. A
// test breaks each kind of file and so notices if kfake changes them.
var lostWrites = []string{"persist ", "endTx: failed to persist", "rebuildSegments "}

// Logf implements kfake.Logger.
func (l *kfakeLog) Logf(level kfake.LogLevel, format string, args ...any) {
	for _, prefix := range lostWrites {
		if strings.HasPrefix(format, prefix) {
			l.count.persistErrors.Add(1)
			if !l.storage.failed.Load() {
				l.log.Error("embedded cluster could not store a write, no write is acknowledged until it is reopened", "kfake", fmt.Sprintf(format, args...))
			}
			l.storage.fail()
			return
		}
	}
	switch {
	case level <= kfake.LogLevelWarn:
		l.log.Warn("kfake says", "kfake", fmt.Sprintf(format, args...))
	default:
	}
}
