package drill

import (
	"slices"
	"time"
)

// Figures are what a canary saw between two moments.
type Figures struct {
	Writes, Acked, Failed int64 // records that were sent, acknowledged, and answered with an error
	// Outage is the longest time in which no write of a partition was acknowledged, the worst partition's; it began at OutageAt.
	Outage   time.Duration
	OutageAt time.Time
	// Wait is the longest time from a write to its acknowledgement.
	Wait time.Duration
	// ReadGap is the longest time in which nothing of a partition was read.
	ReadGap time.Duration
	// Lost are records that were acknowledged and not read, by partition in Losses; LostFor is the time between the first and the last of them, and their pause.
	Lost    int64
	LostFor time.Duration
	Losses  []Loss
	// Doubled are records that were read more than once; Late those that were read behind a later one of their partition.
	Doubled, Late int64
}

// Loss are the records of one partition that were acknowledged and not read.
type Loss struct {
	Partition int32 `json:"partition"`
	Records   int64 `json:"records"`
	First     int64 `json:"first"` // numbers, of the first and the last
	Last      int64 `json:"last"`
}

// Judge finds what happened between two moments to what was written then. A write that is not acknowledged yet counts as one that nobody knows of. It is pure.
func Judge(logs []Log, from, to time.Time) (f Figures) {
	var firstLost, lastLost time.Time
	for _, l := range logs {
		acks := []time.Time{from}
		read := make(map[int64]int, len(l.Reads))
		for _, r := range l.Reads {
			read[r.Seq]++
		}
		loss := Loss{Partition: l.Partition}
		for _, w := range l.Writes {
			if !w.Acked.IsZero() && !w.Acked.Before(from) && !w.Acked.After(to) {
				acks = append(acks, w.Acked)
			}
			if w.Sent.Before(from) || w.Sent.After(to) {
				continue
			}
			f.Writes++
			switch {
			case w.Err != "":
				f.Failed++
				continue
			case w.Acked.IsZero():
				f.Wait = max(f.Wait, to.Sub(w.Sent))
				continue
			}
			f.Acked++
			f.Wait = max(f.Wait, w.Acked.Sub(w.Sent))
			switch n := read[w.Seq]; {
			case n == 0:
				if loss.Records == 0 {
					loss.First = w.Seq
				}
				loss.Records, loss.Last = loss.Records+1, w.Seq
				if firstLost.IsZero() || w.Sent.Before(firstLost) {
					firstLost = w.Sent
				}
				if w.Sent.After(lastLost) {
					lastLost = w.Sent
				}
			case n > 1:
				f.Doubled++
			}
		}
		if loss.Records > 0 {
			f.Lost += loss.Records
			f.Losses = append(f.Losses, loss)
		}
		f.gaps(acks, readTimes(l.Reads, from, to), to)
		f.Late += late(l.Reads, from, to)
	}
	if f.Lost > 0 {
		f.LostFor = lastLost.Sub(firstLost) + Every
	}
	return f
}

// gaps takes the longest pauses of one partition into account.
func (f *Figures) gaps(acks, reads []time.Time, to time.Time) {
	slices.SortFunc(acks, time.Time.Compare)
	for i, at := range acks {
		next := to
		if i+1 < len(acks) {
			next = acks[i+1]
		}
		if gap := next.Sub(at); gap > f.Outage {
			f.Outage, f.OutageAt = gap, at
		}
	}
	reads = append(reads, to)
	for i := 1; i < len(reads); i++ {
		f.ReadGap = max(f.ReadGap, reads[i].Sub(reads[i-1]))
	}
}

// readTimes are the moments of reads between two, behind the first.
func readTimes(reads []Read, from, to time.Time) []time.Time {
	out := []time.Time{from}
	for _, r := range reads {
		if !r.At.Before(from) && !r.At.After(to) {
			out = append(out, r.At)
		}
	}
	return out
}

// late counts the records that were first read behind a later one.
func late(reads []Read, from, to time.Time) (n int64) {
	var highest int64
	seen := make(map[int64]bool, len(reads))
	for _, r := range reads {
		if r.Seq < highest && !seen[r.Seq] && !r.At.Before(from) && !r.At.After(to) {
			n++
		}
		seen[r.Seq] = true
		highest = max(highest, r.Seq)
	}
	return n
}
