package bench

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

const intro = `# Benchmarks

Written by ` + "`make bench`" + `; do not edit. Figures of one machine and one run: compare rows, not runs.

`

const explained = `
- Wire MB are those of the batches in the source's log. CPU and memory are those of the mirroring process alone.
- The relay is a process that reads from one socket and writes to another: the least any mirror can cost.
- Isthmus: all CPU time of the process, its start and stop included. Batches of one record are merged on the way, which
  decodes them; all others are copied as they are.
- MirrorMaker 2: tuned, as ` + "`test/bench`" + ` has it; CPU time from its first record on, without the start of Java and Connect.
  All factors are of this row, whatever the codec.
`

// target is what a row shall reach, as shares.
type target struct {
	row     string
	ofRelay float64 // in wire bytes per CPU-second
	ofPeer  float64 // in records per CPU-second
}

var targets = []target{
	{"isthmus, lz4, 200 kB", 0.25, 25},
	{"isthmus, lz4, 50 kB", 0.20, 0},
	{"isthmus, lz4, 13 kB", 0.10, 0},
}

// mostMemory is what Isthmus shall not exceed in any row.
const mostMemory = 256 << 20

// table writes the page.
func (b *run) table(took time.Duration) string {
	var s strings.Builder
	s.WriteString(intro)
	fmt.Fprintf(&s, "- %d cores, %s, %s; Apache Kafka 4.3.0 → 4.3.0, one broker each, on the same machine; the whole run took %s\n",
		runtime.NumCPU(), runtime.GOARCH, runtime.Version(), took.Round(time.Second))
	fmt.Fprintf(&s, "- records of %d bytes, JSON-like, %d partitions; of %d runs of a row the one of median CPU time, and the peak memory of all\n\n", valueBytes, partitions, b.runs)
	base := median(b.relayed[chunks[0]])
	var peer *result
	if len(b.peers) > 0 {
		peer = &b.peers[0]
	}
	s.WriteString("| | batch | records | records/s | wire MB/s | CPU-seconds | records per CPU-second | wire MB per CPU-second | peak RSS MB | of the 1 MB relay | × MirrorMaker 2 |\n")
	s.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range chunks {
		line(&s, median(b.relayed[c]), base, nil)
	}
	for _, r := range b.mirrored {
		line(&s, r, base, peer)
	}
	if peer != nil {
		line(&s, *peer, base, peer)
	}
	s.WriteString(explained)
	relays := b.relayed[chunks[0]]
	least, most := base.bytesPerCPU(), base.bytesPerCPU()
	for _, r := range relays {
		least, most = min(least, r.bytesPerCPU()), max(most, r.bytesPerCPU())
	}
	fmt.Fprintf(&s, "- The 1 MB relay ran %d times between the other rows: %.0f to %.0f MB per CPU-second.\n", len(relays), least/1e6, most/1e6)
	if peer != nil && peer.recordsPerCPU() < peerLeast {
		fmt.Fprintf(&s, "- **The row of MirrorMaker 2 is void**: below %.1f M records per CPU-second it was hindered, and no factor of it counts.\n", peerLeast/1e6)
	}
	b.judge(&s, base, peer)
	return s.String()
}

// line writes one row.
func line(s *strings.Builder, r, base result, peer *result) {
	size, records, perSecond, perCPU, factor := "–", "–", "–", "–", "–"
	if r.records > 0 {
		size, records = r.batch, fmt.Sprintf("%.1f M", float64(r.records)/1e6)
		perSecond, perCPU = fmt.Sprintf("%.0f", float64(r.records)/r.took.Seconds()), fmt.Sprintf("%.2f M", r.recordsPerCPU()/1e6)
		if peer != nil && peer.recordsPerCPU() >= peerLeast {
			factor = fmt.Sprintf("%.1f", r.recordsPerCPU()/peer.recordsPerCPU())
		}
	}
	fmt.Fprintf(s, "| %s | %s | %s | %s | %.0f | %.2f | %s | %.0f | %.0f | %.0f %% | %s |\n", r.name, size, records, perSecond,
		float64(r.wire)/1e6/r.took.Seconds(), r.cpu.Seconds(), perCPU, r.bytesPerCPU()/1e6, float64(r.rss)/1e6, 100*r.bytesPerCPU()/base.bytesPerCPU(), factor)
}

// judge writes what the targets are and whether they were met.
func (b *run) judge(s *strings.Builder, base result, peer *result) {
	s.WriteString("\n| target | measured | |\n|---|--:|---|\n")
	verdict := func(what, got string, met bool) {
		said := "met"
		if !met {
			said = "**missed**"
		}
		fmt.Fprintf(s, "| %s | %s | %s |\n", what, got, said)
	}
	var memory int64
	for _, r := range b.mirrored {
		memory = max(memory, r.rss)
		for _, g := range targets {
			if g.row != r.name {
				continue
			}
			share := r.bytesPerCPU() / base.bytesPerCPU()
			verdict(fmt.Sprintf("%s: ≥ %.0f %% of the 1 MB relay in wire bytes per CPU-second", g.row, 100*g.ofRelay), fmt.Sprintf("%.0f %%", 100*share), share >= g.ofRelay)
			if g.ofPeer > 0 && peer != nil && peer.recordsPerCPU() >= peerLeast {
				times := r.recordsPerCPU() / peer.recordsPerCPU()
				verdict(fmt.Sprintf("%s: ≥ %.0f × MirrorMaker 2 in records per CPU-second", g.row, g.ofPeer), fmt.Sprintf("%.1f ×", times), times >= g.ofPeer)
			}
		}
	}
	verdict(fmt.Sprintf("every row: peak RSS ≤ %d MiB", mostMemory>>20), fmt.Sprintf("%d MiB", memory>>20), memory <= mostMemory)
}
