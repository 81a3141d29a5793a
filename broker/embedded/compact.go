package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// kfake compacts a partition by deleting its files and writing new ones: a
// kill -9 in between loses all of it. So it is told never to do so on its own,
// and compaction goes like this, while kfake handles no request:
//
//  1. the files of every compacted partition are linked into its folder "keep";
//  2. kfake compacts, and its new files are complete;
//  3. the folders are renamed to "drop" and removed.
//
// A repair that finds a "keep" takes its files for the truth and adds what was
// written after them.
const (
	keepDir = "keep"
	dropDir = "drop"
	keepTmp = keepDir + ".tmp"
)

// tidyInterval is how often retention is applied and topics are compacted.
// Apache Kafka looks at retention as often.
const tidyInterval = 5 * time.Minute

// never is the interval of kfake's own compaction, in milliseconds: ten years.
const never = "315360000000"

// tidy compacts and applies retention. kfake runs control functions in the
// place of a request and handles nothing else meanwhile, which is what keeps
// records from being written between the links and the compaction; so one is
// planted, and a request of our own sets it off.
func (c *Cluster) tidy(kf *kfake.Cluster, gate *gate) error {
	if c.dir == nil {
		kf.Compact()
		return nil
	}
	done := make(chan error, 1)
	kf.ControlKey(keyAPIVersions, func(kmsg.Request) (kmsg.Response, error, bool) {
		kf.DropControl()
		done <- c.dir.compact(kf.Compact)
		return nil, nil, false
	})
	if _, err := askVersions(gate); err != nil {
		return err
	}
	return <-done
}

// compact runs fn, which may rewrite every compacted partition, such that a
// kill -9 in the middle of it loses nothing. Sequence numbers are saved first:
// the batches that prove them may go.
func (d *dataDir) compact(fn func()) error {
	topics, err := d.topics()
	if err != nil {
		return err
	}
	all, err := readWindows(d.file(windowsFile))
	if err != nil {
		return err
	}
	var kept []*partition
	err = d.eachPartition(topics, func(t topicState, p *partition) error {
		if !t.compacted() || p.batches < 2 { // kfake leaves it alone
			return nil
		}
		all.replay(p)
		kept = append(kept, p)
		return p.keep()
	})
	if err == nil && len(kept) > 0 {
		err = all.write(d.file(windowsFile))
	}
	if err == nil {
		fn()
	}
	for _, p := range kept {
		err = errors.Join(err, p.drop())
	}
	return err
}

// keep links every file of the log. The folder gets its name when it is whole.
func (p *partition) keep() error {
	tmp := filepath.Join(p.dir, keepTmp)
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o755)); err != nil {
		return err
	}
	for _, s := range p.segments {
		for _, ext := range []string{".dat", ".idx"} {
			name := s.path(p.dir, ext)
			if err := os.Link(name, filepath.Join(tmp, filepath.Base(name))); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return os.Rename(tmp, filepath.Join(p.dir, keepDir))
}

// drop removes the links, so that an interruption leaves all or none.
func (p *partition) drop() error {
	err := os.Rename(filepath.Join(p.dir, keepDir), filepath.Join(p.dir, dropDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(filepath.Join(p.dir, dropDir))
}

// restore undoes a compaction that was interrupted, keeping the batches that
// were written after it.
func (p *partition) restore() error {
	for _, name := range []string{keepTmp, dropDir} {
		if err := os.RemoveAll(filepath.Join(p.dir, name)); err != nil {
			return err
		}
	}
	keep := filepath.Join(p.dir, keepDir)
	names, err := os.ReadDir(keep)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old := &partition{topic: p.topic, id: p.id, dir: keep}
	if err := old.read(names); err != nil {
		return err
	}
	if err := errors.Join(old.adopt(p), p.clear()); err != nil {
		return err
	}
	for _, n := range names {
		if err := os.Link(filepath.Join(keep, n.Name()), filepath.Join(p.dir, n.Name())); err != nil {
			return err
		}
	}
	if err := p.drop(); err != nil {
		return err
	}
	again, err := readPartition(p.dataDir, p.topic, p.id)
	if err == nil {
		*p = *again
	}
	return err
}

// adopt appends the batches of other that come after the own ones.
func (p *partition) adopt(other *partition) error {
	if len(p.segments) == 0 {
		return nil
	}
	end := p.end
	last := &p.segments[len(p.segments)-1]
	var tail []byte
	for _, s := range other.segments {
		raw, err := os.ReadFile(s.path(other.dir, ".dat"))
		if err != nil {
			return err
		}
		rest := raw[:s.size]
		for range s.headers {
			h, one, after, err := batch.Next(rest)
			if err != nil {
				return err
			}
			if h.BaseOffset >= end {
				tail = append(tail, one...)
			}
			rest = after
		}
	}
	if len(tail) == 0 {
		return nil
	}
	name := last.path(p.dir, ".dat")
	if err := os.Truncate(name, last.size); err != nil {
		return err
	}
	return appendFile(name, tail)
}

// clear removes the files of the log, in an order that a second repair
// survives: the kept files are all there until it is done.
func (p *partition) clear() error {
	names, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n.Name(), ".dat") || strings.HasSuffix(n.Name(), ".idx") {
			err = errors.Join(err, os.Remove(filepath.Join(p.dir, n.Name())))
		}
	}
	return err
}
