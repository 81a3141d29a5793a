package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

const fabric = `[fabric]
name = "bench"
[[cluster]]
name = "from"
bootstrap = [%q]
[[cluster]]
name = "to"
bootstrap = [%q]
[[link]]
from = "from"
to = "to"
topics = [%q]
[[node]]
name = "n"
http = "127.0.0.1:0"
grpc = "127.0.0.1:0"
`

// measureIsthmus runs the binary until the target has everything. All of its
// CPU time counts, that of starting and stopping too.
func (b *run) measureIsthmus(bin, topic string, r result) result {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "fabric.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, fabric, b.from.bootstrap, b.to.bootstrap, topic), 0o600); err != nil {
		b.t.Fatal(err)
	}
	// Made before, so that the clock starts with the first record and not with
	// the discovery of the topic.
	b.to.create(b.t, topic)
	cmd := exec.Command(bin, "run", "-c", file)
	cmd.Stderr = os.Stderr
	p := start(b.t, cmd)
	seen := p.watch(b.to, topic, r.records)
	r.took, r.rss = seen.took, p.rss()
	r.cpu = p.end(syscall.SIGTERM)
	if n := b.to.records(b.t, topic); n != r.records {
		b.t.Errorf("the target holds %d records, the source %d", n, r.records)
	}
	b.to.remove(b.t, topic, "__isthmus.*")
	return r
}
