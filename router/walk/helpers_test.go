package walk

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// fill sets every field to something random, arrays to up to two elements, and what is to be records to batches.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if v.SetInt(r.Int64()); r.IntN(2) == 0 {
			v.SetInt(int64(r.IntN(5) - 1))
		}
	case reflect.String:
		v.SetString([]string{"", "orders", "payments-eu"}[r.IntN(3)])
	case reflect.Pointer:
		if v.SetZero(); r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem())
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(r.Uint64())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(batches(r))
			return
		}
		n := r.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			if r.IntN(4) == 0 {
				tags.Set(uint32(40+r.IntN(300)), make([]byte, r.IntN(40)))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i))
			}
		}
	}
}

// batches makes what a partition may have: batches, the last of them perhaps cut, old messages, or nothing.
func batches(r *rand.Rand) (out []byte) {
	for range r.IntN(4) {
		if r.IntN(8) == 0 {
			out = append(out, oldMessage(r)...)
			continue
		}
		out = appendBatch(out, r, 1+r.IntN(400))
	}
	if len(out) > 0 && r.IntN(3) == 0 {
		out = out[:r.IntN(len(out))]
	}
	return out
}

func appendBatch(out []byte, r *rand.Rand, size int) []byte {
	at := len(out)
	out, err := batch.Encode(out, []batch.Record{{Value: make([]byte, size)}}, batch.None, batch.Stamp{ProducerID: r.Int64N(100), Epoch: int16(r.IntN(5)), Sequence: r.Int32()})
	if err != nil {
		panic(err)
	}
	batch.SetPlace(out[at:], r.Int64N(1000), r.Int32N(50))
	return out
}

// oldMessage is one of format v1, at least as long as a header of v2.
func oldMessage(r *rand.Rand) []byte {
	m := make([]byte, 70+r.IntN(50))
	m[11] = byte(len(m) - 12)
	m[16] = 1
	m[14] = 7 // of the checksum, where v2 has the leader epoch
	return m
}

// patches changes whatever can be changed, so that a field that is missed or changed twice shows.
func patches() *Patch {
	return &Patch{
		Throttle: 1e9 * time.Millisecond,
		Node:     func(id int32) int32 { return id ^ 0x55 },
		Offset: func(at Place, of Field, offset int64) int64 {
			return offset ^ int64(of)<<40 ^ int64(len(at.Topic))<<8 ^ int64(at.Partition)<<16&0xffff0000
		},
		Stamp: func(at Place, h batch.Header) (batch.Stamp, bool) {
			return batch.Stamp{ProducerID: h.ProducerID + 1000, Epoch: h.ProducerEpoch + 1, Sequence: h.BaseSequence ^ at.Partition}, h.ProducerID%3 != 0
		},
	}
}

// pass sends a body through a walker in pieces of random sizes and returns what comes out.
func pass(w *Walker, r *rand.Rand, body []byte) (out []byte, err error) {
	var buf []byte
	for given := 0; ; {
		n := min(len(body)-given, r.IntN(200))
		buf = append(buf, body[given:given+n]...)
		given += n
		passed, err := w.Walk(buf)
		if err != nil {
			return out, err
		}
		out = append(out, buf[:passed]...)
		buf = append([]byte(nil), buf[passed:]...)
		if len(buf) >= MinBuffer {
			panic("the walker keeps more than a buffer may hold")
		}
		if given == len(body) {
			if len(buf) > 0 || w.Left() != 0 {
				panic("the walker keeps the end of a body")
			}
			return out, nil
		}
	}
}

type message interface {
	SetVersion(int16)
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// each calls fn with random messages of every version of Produce and Fetch.
func each(t testing.TB, rounds int, fn func(r *rand.Rand, key, version int16, answer bool, m message)) {
	t.Helper()
	r := newRand(1)
	for key := range int16(2) {
		for version := range kmsg.RequestForKey(key).MaxVersion() + 1 {
			for round := range rounds {
				req := kmsg.RequestForKey(key)
				var m message = req
				if round%2 == 1 {
					m = req.ResponseKind()
				}
				fill(r, reflect.ValueOf(m).Elem())
				tame(m)
				m.SetVersion(version)
				fn(r, key, version, round%2 == 1, m)
			}
		}
	}
}
