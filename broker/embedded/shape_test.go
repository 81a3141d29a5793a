package embedded

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/shape"
)

// served are the versions of the kfake that this build has.
func served(t testing.TB) versions {
	t.Helper()
	c, err := New(Config{Name: "eu", InMemory: true, Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(t.Context()) }()
	conn := dial(t, c.Addr()) // an answer means that the versions are known
	conn.request(18, 0, nil)
	conn.response()
	v := c.guard.versions
	c.Close()
	<-done
	return v
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// fill sets every field to something random, arrays to up to two elements.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if v.SetInt(r.Int64()); r.IntN(2) == 0 {
			v.SetInt(int64(r.IntN(5) - 1)) // what reaches further
		}
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(r.Uint64())
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.String:
		v.SetString([]string{"", "orders", "billing", "range", "compact", "cleanup.policy", "1"}[r.IntN(7)])
	case reflect.Pointer:
		if v.SetZero(); r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem())
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Slice:
		n := r.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			if r.IntN(4) == 0 {
				tags.Set(uint32(40+r.IntN(3)), []byte("tag"))
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

func randomRequest(r *rand.Rand, key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	fill(r, reflect.ValueOf(req).Elem())
	req.SetVersion(version)
	if f, ok := req.(*kmsg.FetchRequest); ok {
		f.ReplicaState = kmsg.NewFetchRequestReplicaState() // of brokers only, refused
	}
	return req
}

// TestShape_AgreesWithKmsg walks random requests of everything that is served:
// each must pass whole, and not one byte shorter or longer.
func TestShape_AgreesWithKmsg(t *testing.T) {
	r := newRand(1)
	var all shape.Shapes
	for key, rng := range served(t) {
		for version := rng.low; version <= rng.high; version++ {
			s, err := all.Request(key, version)
			if err != nil {
				t.Fatal(err)
			}
			for range 50 {
				body := randomRequest(r, key, version).AppendTo(nil)
				if _, ok := s.Walk(body); !ok {
					t.Fatalf("%s v%d: shape refuses % x\n%+v", kmsg.NameForKey(key), version, body, s)
				}
				if _, ok := s.Walk(append(body, 0)); ok {
					t.Fatalf("%s v%d: shape takes a byte too many", kmsg.NameForKey(key), version)
				}
				if len(body) == 0 {
					continue
				}
				if _, ok := s.Walk(body[:len(body)-1]); ok {
					t.Fatalf("%s v%d: shape takes a byte too few", kmsg.NameForKey(key), version)
				}
			}
		}
	}
}

// TestShape_FindsBombs puts the largest count at every place of a request:
// kmsg would work on some of these for a minute each.
func TestShape_FindsBombs(t *testing.T) {
	r := newRand(3)
	var all shape.Shapes
	began := time.Now()
	for key, rng := range served(t) {
		s, err := all.Request(key, rng.high)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			body := randomRequest(r, key, rng.high).AppendTo(nil)
			for i := range body {
				bomb := append(body[:i:i], 0xff, 0xff, 0xff, 0xff, 0x0f)
				if elements, ok := s.Walk(append(bomb, body[i+1:]...)); ok && elements > len(body) {
					t.Fatalf("%s: %d elements in %d bytes", kmsg.NameForKey(key), elements, len(body))
				}
			}
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("walking bombs took %s", took)
	}
}

// FuzzShape: what a shape takes, kmsg reads, soon, whole and without a panic, and takes again when it writes it.
func FuzzShape(f *testing.F) {
	r := newRand(5)
	all := &shape.Shapes{}
	known := served(f)
	for key, rng := range known {
		f.Add(key, rng.high, randomRequest(r, key, rng.high).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		h := header{key: key, version: version}
		if known.check(h) != nil || !known.supports(h) {
			return
		}
		s, err := all.Request(key, version)
		if err != nil {
			t.Fatal(err)
		}
		elements, ok := s.Walk(body)
		if elements > len(body) {
			t.Fatalf("%d elements in %d bytes", elements, len(body))
		}
		if !ok {
			return
		}
		req, err := readRequest(h, body)
		if err != nil {
			return // a tag that kmsg reads, and that holds something else
		}
		if again, ok := s.Walk(req.AppendTo(nil)); !ok || again != elements {
			t.Fatalf("%s v%d: %d elements, and %d when kmsg has written it again (taken: %v)", kmsg.NameForKey(key), version, elements, again, ok)
		}
	})
}

func BenchmarkShape_Produce(b *testing.B) {
	req := kmsg.NewPtrProduceRequest()
	req.Version = 13
	for range 10 {
		topic := kmsg.NewProduceRequestTopic()
		for p := range int32(10) {
			part := kmsg.NewProduceRequestTopicPartition()
			part.Partition, part.Records = p, make([]byte, 13<<10)
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
	}
	body := req.AppendTo(nil)
	var all shape.Shapes
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		s, err := all.Request(0, 13)
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := s.Walk(body); !ok {
			b.Fatal("refused")
		}
	}
}

func appendFrame(key, version int16, correlation int32, rest []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	out = binary.BigEndian.AppendUint16(out, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = binary.BigEndian.AppendUint32(out, uint32(correlation))
	return append(out, rest...)
}
