package rewrite

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// shifted is a home whose offsets are others by something of the partition's own.
type shifted struct{}

func by(topic string, partition int32) int64 { return int64(1000*len(topic)) + int64(partition) }

func (shifted) Real(topic string, partition int32, virtual int64) int64 {
	return virtual + by(topic, partition)
}

func (s shifted) Start(topic string, partition int32, real int64) int64 {
	return s.Virtual(topic, partition, real)
}

func (shifted) Place(string, int32, int64) (timeline.Place, bool) { return timeline.Place{}, false }

func (shifted) Skip(string, int32, timeline.Place) {}

func (shifted) Pack(string, int32) {}

func (shifted) Packs(string, int32) bool { return false }

func (shifted) Virtual(topic string, partition int32, real int64) int64 {
	return real - by(topic, partition)
}

// TestOffsets: every offset of a record in every version that is rewritten is mapped, in its direction, for its partition, and nothing else is; one below 0 says something else.
func TestOffsets(t *testing.T) {
	plain := view(t)
	v := plain.WithOffsets(shifted{})
	seen := make(map[string]bool)
	for _, answer := range []bool{true, false} {
		each(t, v, answer, []int32{-1, 1, 101}, func(r *rand.Rand, row apis.Row, version int16, m any, _ []byte) {
			negative := r.IntN(3) == 0
			shift(reflect.ValueOf(m), "", 0, func(f reflect.Value, _ string, _ int32) {
				if negative {
					f.SetInt(-1)
				}
			})
			do := func(v *View, m any) (out []byte, err error) {
				if resp, ok := m.(kmsg.Response); ok {
					return v.Answer(nil, resp.Key(), version, resp.AppendTo(nil), nil)
				}
				req := m.(kmsg.Request)
				return v.Request(nil, req.Key(), version, req.AppendTo(nil))
			}
			got, err := do(v, m)
			if err != nil {
				t.Fatal(err)
			}
			unmapped, err := do(plain, m)
			if err != nil {
				t.Fatal(err)
			}
			var want interface {
				ReadFrom([]byte) error
				AppendTo([]byte) []byte
			}
			if answer {
				resp := kmsg.ResponseForKey(int16(row.Key))
				resp.SetVersion(version)
				want = resp
			} else {
				req := kmsg.RequestForKey(int16(row.Key))
				req.SetVersion(version)
				want = req
			}
			if err := want.ReadFrom(unmapped); err != nil {
				t.Fatal(err)
			}
			shift(reflect.ValueOf(want), "", 0, func(f reflect.Value, topic string, partition int32) {
				if f.Int() < 0 || !answer && row.Request&apis.Offset == 0 || answer && row.Answer&apis.Offset == 0 {
					return
				}
				seen[row.Key.Name()] = true
				if answer {
					f.SetInt(f.Int() - by(topic, partition))
				} else {
					f.SetInt(f.Int() + by(topic, partition))
				}
			})
			if b := want.AppendTo(nil); !bytes.Equal(got, b) {
				t.Fatalf("%s v%d, answer %v: % x, want % x", row.Key.Name(), version, answer, got, b)
			}
		})
	}
	for _, key := range []kmsg.Key{kmsg.ListOffsets, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.TxnOffsetCommit, kmsg.DeleteRecords, kmsg.DescribeProducers} {
		if !seen[key.Name()] {
			t.Errorf("no offset of %s is mapped", key.Name())
		}
	}
	if row, _ := apis.Of(int16(kmsg.DeleteRecords), 0); plain.Requests(row) || plain.Answers(row) || !v.Requests(row) || !v.Answers(row) {
		t.Error("where offsets are the home's, what has nothing else to be rewritten passes as it is")
	}
}

// offsets are the fields that have offsets of records.
var offsets = map[string]bool{"Offset": true, "OldStyleOffsets": true, "LowWatermark": true, "CurrentTxnStartOffset": true}

// shift calls fn for each offset of a record, with the partition that it is of.
func shift(v reflect.Value, topic string, partition int32, fn func(f reflect.Value, topic string, partition int32)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			shift(v.Elem(), topic, partition, fn)
		}
	case reflect.Slice:
		for i := range v.Len() {
			shift(v.Index(i), topic, partition, fn)
		}
	case reflect.Struct:
		if f := v.FieldByName("Topic"); f.IsValid() && f.Kind() == reflect.String {
			topic = f.String()
		}
		if f := v.FieldByName("Partition"); f.IsValid() && f.CanInt() {
			partition = int32(f.Int())
		}
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			switch {
			case !v.Type().Field(i).IsExported():
			case offsets[name] && f.Kind() == reflect.Int64:
				fn(f, topic, partition)
			case offsets[name] && f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Int64:
				for j := range f.Len() {
					fn(f.Index(j), topic, partition)
				}
			default:
				shift(f, topic, partition, fn)
			}
		}
	}
}
