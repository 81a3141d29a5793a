package poison

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// forger changes what goes over connections to one cluster.
type forger struct {
	mu sync.Mutex
	// serve returns what is served of a partition in place of some whole batches.
	serve func(partition int32, batches []byte) []byte
	// refuse returns the code by which the target refuses a batch; 0: it takes it.
	refuse func(partition int32, batch []byte) int16
}

func (f *forger) set(change func(f *forger)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// asked is a request on its way.
type asked struct {
	key, version int16
	correlation  int32
	codes        map[int32]int16 // by partition
}

// over dials through the forger.
func (f *forger) over(to dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		inner, err := to(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ours, theirs := net.Pipe()
		requests := make(chan asked, 1000)
		end := func() { inner.Close(); theirs.Close() }
		go func() {
			defer end()
			defer close(requests)
			for {
				req, err := readFrame(theirs)
				if err != nil || len(req) < 10 {
					return
				}
				a, req := f.request(req)
				requests <- a
				if writeFrame(inner, req) != nil {
					return
				}
			}
		}()
		go func() {
			defer end()
			for a := range requests {
				answer, err := readFrame(inner)
				if err != nil || writeFrame(theirs, f.answer(a, answer)) != nil {
					return
				}
			}
		}()
		return ours, nil
	}
}

// request notes a request; a batch that is to be refused is damaged.
func (f *forger) request(req []byte) (asked, []byte) {
	a := asked{key: int16(binary.BigEndian.Uint16(req)), version: int16(binary.BigEndian.Uint16(req[2:])), correlation: int32(binary.BigEndian.Uint32(req[4:]))}
	f.mu.Lock()
	refuse := f.refuse
	f.mu.Unlock()
	if refuse == nil || a.key != int16(kmsg.Produce) {
		return a, req
	}
	p := kmsg.NewPtrProduceRequest()
	p.SetVersion(a.version)
	head := 10 + max(0, int(int16(binary.BigEndian.Uint16(req[8:]))))
	if p.IsFlexible() {
		head++
	}
	if p.ReadFrom(req[head:]) != nil {
		return a, req
	}
	a.codes = make(map[int32]int16)
	for i := range p.Topics {
		for j := range p.Topics[i].Partitions {
			rp := &p.Topics[i].Partitions[j]
			if len(rp.Records) < 61 {
				continue
			}
			if code := refuse(rp.Partition, rp.Records); code != 0 {
				a.codes[rp.Partition] = code
				rp.Records = bytes.Clone(rp.Records)
				rp.Records[17] ^= 0xff // of the checksum
			}
		}
	}
	return a, p.AppendTo(bytes.Clone(req[:head]))
}

// answer changes an answer.
func (f *forger) answer(a asked, answer []byte) []byte {
	f.mu.Lock()
	serve := f.serve
	f.mu.Unlock()
	if serve == nil || a.key != int16(kmsg.Fetch) {
		if len(a.codes) == 0 {
			return answer
		}
	}
	resp := kmsg.ResponseForKey(a.key)
	resp.SetVersion(a.version)
	head := 4
	if resp.IsFlexible() {
		head++
	}
	if resp.ReadFrom(answer[head:]) != nil {
		return answer
	}
	switch r := resp.(type) {
	case *kmsg.FetchResponse:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				if p := &r.Topics[i].Partitions[j]; len(p.RecordBatches) > 61 {
					p.RecordBatches = serve(p.Partition, bytes.Clone(p.RecordBatches))
				}
			}
		}
	case *kmsg.ProduceResponse:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				if p := &r.Topics[i].Partitions[j]; a.codes[p.Partition] != 0 {
					p.ErrorCode = a.codes[p.Partition]
				}
			}
		}
	}
	return resp.AppendTo(bytes.Clone(answer[:head]))
}

func readFrame(in io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(in, body)
	return body, err
}

func writeFrame(out io.Writer, body []byte) error {
	_, err := out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// damage changes the batch with this base offset, wherever it is served.
func damage(partition int32, base int64, change func(batch []byte)) func(int32, []byte) []byte {
	return func(of int32, raw []byte) []byte {
		for at := 0; of == partition && at+61 <= len(raw); {
			size := 12 + int(binary.BigEndian.Uint32(raw[at+8:]))
			if int64(binary.BigEndian.Uint64(raw[at:])) == base && at+size <= len(raw) {
				change(raw[at : at+size])
			}
			at += size
		}
		return raw
	}
}
