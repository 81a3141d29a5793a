package limits

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// changed is a lie that changes the content of an answer of one kind.
func changed[R kmsg.Response](change func(l *liar, resp R)) lie {
	return func(l *liar, e exchange, out net.Conn) bool {
		resp, ok := e.response().(R)
		if !ok {
			return writeFrame(out, e.answer)
		}
		change(l, resp)
		return writeFrame(out, e.encoded(resp))
	}
}

// few tells a lie that is much work so many times, and then hangs up.
func few(n int64, tell lie) lie {
	return func(l *liar, e exchange, out net.Conn) bool { return l.lies.Load() <= n && tell(l, e, out) }
}

// batches is a lie that changes the bytes of the batches in a fetch answer.
func batches(change func(l *liar, raw []byte) []byte) lie {
	return changed(func(l *liar, resp *kmsg.FetchResponse) {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; len(p.RecordBatches) > 61 {
					p.RecordBatches = change(l, bytes.Clone(p.RecordBatches))
				}
			}
		}
	})
}

func put32(at int, v uint32) func(*liar, []byte) []byte {
	return func(_ *liar, b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
}

// head is the beginning of a frame that says it is so long.
func head(length uint32, correlation int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, length), uint32(correlation))
}

var (
	garbage lie = func(l *liar, e exchange, out net.Conn) bool {
		b := make([]byte, 4+l.random(3000))
		for i := range b {
			b[i] = byte(l.random(256))
		}
		binary.BigEndian.PutUint32(b, uint32(e.correlation))
		return writeFrame(out, b)
	}
	endless lie = func(_ *liar, e exchange, out net.Conn) bool {
		ok := write(out, head(127<<20, e.correlation))
		for chunk := make([]byte, 256<<10); ok; {
			ok = write(out, chunk)
			time.Sleep(10 * time.Millisecond)
		}
		return false
	}
	dribble lie = func(_ *liar, e exchange, out net.Conn) bool {
		for _, b := range append(head(uint32(len(e.answer)), e.correlation), e.answer[4:]...) {
			if !write(out, []byte{b}) {
				return false
			}
			time.Sleep(time.Second)
		}
		return true
	}
	silence  lie = func(*liar, exchange, net.Conn) bool { return true }
	long     lie = func(_ *liar, e exchange, out net.Conn) bool { return write(out, head(1<<31-1, e.correlation)) }
	negative lie = func(_ *liar, e exchange, out net.Conn) bool { return write(out, head(0xfffffff0, e.correlation)) }
	other    lie = func(_ *liar, e exchange, out net.Conn) bool {
		binary.BigEndian.PutUint32(e.answer, uint32(e.correlation+1))
		return writeFrame(out, e.answer)
	}
	// counts puts the largest count at a place by the seed.
	counts lie = func(l *liar, e exchange, out net.Conn) bool {
		if resp, ok := e.response().(*kmsg.FetchResponse); ok { // not in the records: what no checksum covers there can only be believed
			for i := range resp.Topics {
				for j := range resp.Topics[i].Partitions {
					resp.Topics[i].Partitions[j].RecordBatches = nil
				}
			}
			e.answer = e.encoded(resp)
		}
		at := 4 + l.random(max(1, len(e.answer)-4))
		if e.key == int16(kmsg.Produce) { // before the base offset, which can only be believed
			at = 4 + l.random(16)
		}
		bomb := []byte{0xff, 0xff, 0xff, 0xff, 0x07}
		if l.random(2) == 0 {
			bomb = []byte{0x7f, 0xff, 0xff, 0xff}
		}
		return writeFrame(out, append(append(e.answer[:at:at], bomb...), e.answer[min(len(e.answer), at+len(bomb)):]...))
	}
	cut lie = func(l *liar, e exchange, out net.Conn) bool {
		return writeFrame(out, e.answer[:4+l.random(max(1, len(e.answer)-4))])
	}
)

// lies is what a hostile broker may answer. says: words of which the link's status must show one while it lasts; none = the
// link may take it for what it is worth.
var lies = []struct {
	name    string
	cluster string
	tell    lie
	keys    []kmsg.Key
	says    []string
	slow    bool          // it takes patience to notice
	most    time.Duration // until all is copied after the truth is back; 0 = a minute
}{
	{"garbage to a fetch", "eu", garbage, []kmsg.Key{kmsg.Fetch}, []string{"protocol"}, false, 0},
	{"garbage to a produce", "us", garbage, []kmsg.Key{kmsg.Produce}, []string{"protocol"}, false, 0},
	{"garbage to metadata", "eu", garbage, []kmsg.Key{kmsg.Metadata}, []string{"eu"}, false, 0},
	{"garbage to everything at the source", "eu", garbage, nil, []string{"eu"}, false, 0},
	{"garbage to everything at the target", "us", garbage, nil, []string{"us"}, false, 0},
	{"endless frames", "eu", endless, []kmsg.Key{kmsg.Fetch}, []string{"protocol"}, true, 0},
	{"endless frames of the target", "us", endless, []kmsg.Key{kmsg.Produce}, []string{"protocol", "bytes"}, true, 0},
	{"endless metadata", "eu", endless, []kmsg.Key{kmsg.Metadata}, []string{"eu"}, true, 0},
	{"2 GB frames", "eu", long, nil, []string{"limit", "too large", "large", "eu"}, false, 0},
	{"negative frames", "us", negative, nil, []string{"limit", "us"}, false, 0},
	{"counts of 2^31 in a fetch", "eu", counts, []kmsg.Key{kmsg.Fetch}, nil, false, 0},
	{"counts of 2^31 in metadata", "eu", counts, []kmsg.Key{kmsg.Metadata}, nil, false, 0},
	{"counts of 2^31 in a produce answer", "us", counts, []kmsg.Key{kmsg.Produce}, nil, false, 0},
	{"more partitions than there can be", "eu", few(3, changed(tooMany)), []kmsg.Key{kmsg.Metadata}, []string{"eu answers for topic orders"}, false, 0},
	{"a byte a second", "eu", dribble, []kmsg.Key{kmsg.Fetch}, nil, true, 0},
	{"a byte a second from the target", "us", dribble, []kmsg.Key{kmsg.Produce}, nil, true, 0},
	{"a byte a second of everything", "eu", dribble, nil, nil, true, 0},
	{"no answer to a fetch", "eu", silence, []kmsg.Key{kmsg.Fetch}, []string{"no progress", "eu"}, true, 0},
	{"no answer to a produce", "us", silence, []kmsg.Key{kmsg.Produce}, []string{"no progress", "us"}, true, 0},
	{"no answer to anything", "us", silence, nil, []string{"us"}, true, 0},
	{"other correlation ids", "eu", other, nil, []string{"correlation", "eu"}, false, 0},
	{"other correlation ids of the target", "us", other, nil, []string{"correlation", "us"}, false, 0},
	{"answers cut short", "eu", cut, []kmsg.Key{kmsg.Fetch}, []string{"protocol"}, false, 0},
	{"offsets that go backwards", "eu", batches(backwards), []kmsg.Key{kmsg.Fetch}, nil, false, 0},
	{"batches of 2^31 records", "eu", batches(manyRecords), []kmsg.Key{kmsg.Fetch}, []string{"corrupt", "records", "CORRUPT"}, false, 0},
	{"batches of negative length", "eu", batches(put32(8, 0xfffffffb)), []kmsg.Key{kmsg.Fetch}, []string{"poison"}, false, 2 * time.Minute},
	{"batches of length 2^31-1", "eu", batches(put32(8, 1<<31-1)), []kmsg.Key{kmsg.Fetch}, nil, false, 2 * time.Minute},
	{"damaged batches", "eu", batches(damaged), []kmsg.Key{kmsg.Fetch}, []string{"CORRUPT", "corrupt"}, false, 2 * time.Minute},
	{"partitions that were not asked for", "eu", changed(notAsked), []kmsg.Key{kmsg.Fetch}, []string{"not asked for"}, false, 0},
	{"answers for batches that were not sent", "us", changed(notSent), []kmsg.Key{kmsg.Produce}, []string{"not sent"}, false, 0},
	{"no answer for a batch that was sent", "us", changed(forgotten), []kmsg.Key{kmsg.Produce}, []string{"does not speak"}, false, 0},
	{"abort markers twice", "eu", batches(twice), []kmsg.Key{kmsg.Fetch}, nil, false, 0},
	{"brokers at the target's address", "eu", changed(elsewhere), []kmsg.Key{kmsg.Metadata}, nil, false, 2 * time.Minute},
	{"brokers at an address that is none", "eu", changed(nowhere), []kmsg.Key{kmsg.Metadata}, []string{"eu"}, true, 0},
	{"watermarks that jump", "eu", changed(watermarks), []kmsg.Key{kmsg.Fetch}, nil, false, 0},
	{"unknown error codes", "us", changed(codes), []kmsg.Key{kmsg.Produce}, []string{"error code 12345"}, false, 0},
}

// tooMany says that a topic has more partitions than a cluster can have; every further one only costs the test time.
func tooMany(_ *liar, resp *kmsg.MetadataResponse) {
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil || *t.Topic != "orders" || len(t.Partitions) == 0 {
			continue
		}
		first := t.Partitions[0]
		t.Partitions = make([]kmsg.MetadataResponseTopicPartition, 150_000)
		for p := range t.Partitions {
			t.Partitions[p] = first
			t.Partitions[p].Partition = int32(p)
		}
	}
}

// backwards repeats what came before.
func backwards(_ *liar, raw []byte) []byte {
	second := bytes.Clone(raw)
	binary.BigEndian.PutUint64(second, 0)
	return append(raw, second...)
}

// manyRecords says that a packed batch holds 2^31-1 records.
func manyRecords(_ *liar, raw []byte) []byte {
	binary.BigEndian.PutUint32(raw[57:], 1<<31-1)
	binary.BigEndian.PutUint32(raw[23:], 1<<31-2)
	return raw
}

// damaged changes one bit of what the checksum of the first batch covers. Of the head of a second one it would cover no offset, which
// can only be believed.
func damaged(l *liar, raw []byte) []byte {
	end := min(len(raw), 12+int(binary.BigEndian.Uint32(raw[8:])))
	raw[61+l.random(end-61)] ^= 1 << l.random(8)
	return raw
}

func notAsked(_ *liar, resp *kmsg.FetchResponse) {
	for i := range resp.Topics {
		p := resp.Topics[i].Partitions[0]
		p.Partition = 77
		resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, p)
	}
}

func notSent(_ *liar, resp *kmsg.ProduceResponse) {
	for i := range resp.Topics {
		p := resp.Topics[i].Partitions[0]
		p.Partition = 77
		resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, p)
	}
}

func forgotten(_ *liar, resp *kmsg.ProduceResponse) {
	for i := range resp.Topics {
		resp.Topics[i].Partitions = resp.Topics[i].Partitions[1:]
	}
}

// twice repeats the last batch, which often is an abort marker.
func twice(_ *liar, raw []byte) []byte {
	for at := 0; ; {
		next := at + 12 + int(binary.BigEndian.Uint32(raw[at+8:]))
		if next >= len(raw) {
			return append(raw, raw[at:]...)
		}
		at = next
	}
}

func elsewhere(_ *liar, resp *kmsg.MetadataResponse) {
	for i := range resp.Brokers {
		resp.Brokers[i].Port += 10 // where the next cluster listens
	}
}

func nowhere(_ *liar, resp *kmsg.MetadataResponse) {
	for i := range resp.Brokers {
		resp.Brokers[i].Port = 1
	}
}

func watermarks(l *liar, resp *kmsg.FetchResponse) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			p.HighWatermark, p.LastStableOffset, p.LogStartOffset = int64(l.random(100)), int64(l.random(100))-50, -int64(l.random(100))
		}
	}
}

func codes(_ *liar, resp *kmsg.ProduceResponse) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].ErrorCode = 12345
		}
	}
}

// nothing are the ends of a source without records.
var nothing = []int64{0, 0}

// heapLimit is what the process may take beyond what it had: some frames of the largest size (one
// that is read, those that were read before and are not collected yet, one of a look for a place; the liar has its own), and
// what two links and three clusters take. What is believed of a count alone is gigabytes.
const heapLimit = 5*broker.MaxFrameBytes + 64<<20

func TestLink_OutlivesLies(t *testing.T) {
	for i, c := range lies {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, uint64(i+1))
				defer w.stop()
				within(t, 20*time.Second, "both links run", func() string { return behind(w.victim, nothing) + behind(w.calm, nothing) })
				ctx, enough := context.WithCancel(context.Background())
				written := make(chan error, 2)
				go func() {
					written <- judge.Write(ctx, w.Client("eu"), judge.Load{Topic: "orders", Partitions: 2, Rate: 60, Size: 80, Compression: "snappy", Seed: 1}, w.log)
				}()
				go func() {
					written <- judge.Write(ctx, w.Client("eu"), judge.Load{Topic: "orders", Partitions: 2, Rate: 30, Size: 40, Transaction: 20, Seed: 2}, w.log)
				}()
				time.Sleep(2 * time.Second)
				peak := w.measure()
				defer peak()
				liar := w.liars[c.cluster]
				liar.set(c.tell, c.keys...)
				lasts, heard := 8*time.Second, ""
				if c.slow {
					lasts = 40 * time.Second // longer than anybody waits
				}
				for began := time.Now(); time.Since(began) < lasts; time.Sleep(20 * time.Millisecond) {
					if said := says(w.victim); said != "" && (heard == "" || !hasAny(heard, c.says)) {
						heard = said
					}
				}
				if liar.lies.Load() == 0 {
					t.Error("nobody was lied to")
				}
				if len(c.says) > 0 && !hasAny(heard, c.says) {
					t.Errorf("the status says %q, want something with one of %q", heard, c.says)
				}
				if why := says(w.calm); why != "" {
					t.Errorf("the other link is disturbed: %s", why)
				}
				liar.truth()
				time.Sleep(2 * time.Second)
				enough()
				for range 2 {
					if err := <-written; err != nil {
						t.Fatal(err)
					}
				}
				ends := w.ends()
				within(t, 5*time.Second, "the other link has everything", func() string { return behind(w.calm, ends) })
				most := c.most
				if most == 0 {
					most = time.Minute
				}
				within(t, most, "the link has everything after the truth is back", func() string { return behind(w.victim, ends) })
				time.Sleep(time.Second)
				w.verdict()
				if most := peak(); most > heapLimit {
					t.Errorf("%d MiB of heap", most>>20)
				} else {
					t.Logf("%d lies, %d MiB of heap; it said: %.200s", liar.lies.Load(), most>>20, heard)
				}
			})
		})
	}
}

func hasAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// TestLink_EndsWhileItIsLiedTo: whatever a link waits for, the end of its context ends it.
func TestLink_EndsWhileItIsLiedTo(t *testing.T) {
	for i, c := range lies {
		if c.name == "more partitions than there can be" {
			continue // work for the liar above all
		}
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, uint64(100+i))
				defer w.stop()
				if i%2 == 0 {
					within(t, 20*time.Second, "the link runs", func() string { return behind(w.victim, nothing) })
				}
				err := judge.Write(context.Background(), w.Client("eu"), judge.Load{Topic: "orders", Partitions: 2, Records: 100, Size: 80, Seed: 1}, w.log)
				if err != nil {
					t.Fatal(err)
				}
				w.liars[c.cluster].set(c.tell, c.keys...)
				time.Sleep(time.Duration(1+i) * 700 * time.Millisecond)
				began := time.Now()
				w.cancel[w.victim]()
				<-w.ended[w.victim]
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("it took %s to end", took)
				}
			})
		})
	}
}
