package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// The target's log is the lock, and the ledger is not behind it: an owner that was frozen, or whose request hung, may write that it leaves out a
// record which another owner has copied meanwhile, because the target takes it by now. So who has written such an entry reads what has come to
// the target since its place, and takes the entry back if the record is there.

// lateRetry is the time between tries to read that.
const lateRetry = time.Second

// withdraw takes entries back whose records another owner has copied, and reports whether there were any. It tries until ctx ends: nobody else
// would come back to it.
func (l *Link) withdraw(ctx context.Context, p *pump, at Checkpoint, found []stretch, entries []LedgerEntry) (withdrawn bool, err error) {
	for {
		if withdrawn, err = l.withdrawOnce(ctx, p, at, found, entries); err == nil {
			return withdrawn, nil
		}
		if sleep(ctx, lateRetry) != nil {
			return false, fmt.Errorf("look whether another owner has copied what was left out: %w", err)
		}
	}
}

func (l *Link) withdrawOnce(ctx context.Context, p *pump, at Checkpoint, found []stretch, entries []LedgerEntry) (bool, error) {
	there, err := l.copiedMeanwhile(ctx, p, at, found)
	if err != nil || len(there) == 0 {
		return false, err
	}
	var wrong []LedgerEntry
	for _, e := range entries {
		for _, offset := range there {
			if offset >= e.First && offset <= e.Last {
				wrong = append(wrong, e)
				break
			}
		}
	}
	l.log.Warn("records that were to be left out are on the target by another owner: the entry is taken back", "pump", p.id.String(), "first", there[0])
	return true, l.store.retract(ctx, wrong...)
}

// copiedMeanwhile returns the source offsets of those records that the link has written to the target since a place. A batch that nobody here could
// take apart cannot be told.
func (l *Link) copiedMeanwhile(ctx context.Context, p *pump, at Checkpoint, found []stretch) (there []int64, err error) {
	var missing []batch.Record
	for _, s := range found {
		if s.kind != letterRecord {
			continue
		}
		records, err := batch.Decode(s.raw, len(s.raw)+l.cfg.DecodeBytes)
		if err != nil {
			return nil, err
		}
		missing = append(missing, records...)
	}
	end, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Latest, false)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	for from := at.TargetFrom; from < end.Offset; {
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, from, recoveryFetchBytes, false)
		if err != nil {
			return nil, err
		}
		next, err := p.flow.ownIn(frame.Partitions[0].Batches, from, func(_ batch.Header, raw []byte, _ string) error {
			records, err := batch.Decode(raw, finderDecodeBytes)
			for _, r := range records {
				for _, m := range missing {
					if batch.Equal(r, m) {
						there = append(there, m.Offset)
					}
				}
			}
			return err
		})
		frame.Release()
		if err != nil {
			return nil, err
		}
		if next == from {
			return nil, fmt.Errorf("the target answers nothing at offset %d although it ends at %d", from, end.Offset)
		}
		from = next
	}
	return there, nil
}
