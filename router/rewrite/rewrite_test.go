package rewrite

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// real brokers have ids from 101 on, the slots they have are from 1 on, and 199 has none.
func view(t testing.TB) *View {
	t.Helper()
	v, err := NewView("virtual-cluster", []Slot{{1, 101, "door.example", 9093}, {2, 102, "door.example", 9094}, {3, 103, "door.example", 9095}, {4, -1, "door.example", 9096}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fill sets every field to something random, arrays to up to three elements, and what is to be ids of brokers to those in ids.
func fill(r *rand.Rand, v reflect.Value, name string, ids []int32) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(50)))
		if brokers[name] {
			v.SetInt(int64(ids[r.IntN(len(ids))]))
		}
		if v.Type() == reflect.TypeFor[kmsg.ConfigResourceType]() || name == "Type" {
			v.SetInt([]int64{2, 4, 8}[r.IntN(3)])
		}
	case reflect.String:
		v.SetString([]string{"", "orders", "payments-eu"}[r.IntN(3)])
		switch {
		case name == "Host":
			v.SetString("real.example")
		case name == "ClusterID":
			v.SetString("real-cluster")
		case (name == "ResourceName" || name == "Name") && r.IntN(2) == 0:
			v.SetString(strconv.Itoa(int(ids[r.IntN(len(ids))])))
		}
	case reflect.Pointer:
		if v.SetZero(); r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), name, ids)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(r.Uint64())
		}
	case reflect.Slice:
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			if v.Type().Elem().Kind() == reflect.Uint8 {
				v.Index(i).SetUint(r.Uint64())
				continue
			}
			fill(r, v.Index(i), name, ids)
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			if r.IntN(3) == 0 {
				tags.Set(uint32(r.IntN(3)), []byte("tag"))
			}
			return
		}
		for i := range v.NumField() {
			if t := v.Type().Field(i); t.IsExported() {
				fill(r, v.Field(i), t.Name, ids)
			}
		}
	}
}

// brokers are fields with ids of brokers.
var brokers = map[string]bool{"NodeID": true, "Leader": true, "ControllerID": true, "BrokerID": true, "Replicas": true, "ISR": true, "OfflineReplicas": true, "AddingReplicas": true, "RemovingReplicas": true}

// visit calls fn for each leaf; of resources it hands over the type too.
func visit(v reflect.Value, name string, kind int64, fn func(v reflect.Value, name string, kind int64)) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return
		}
		if f := v.FieldByName("ResourceType"); f.IsValid() && f.CanInt() {
			kind = f.Int()
		}
		if f := v.FieldByName("Type"); f.IsValid() && f.CanInt() {
			kind = f.Int()
		}
		for i := range v.NumField() {
			if t := v.Type().Field(i); t.IsExported() {
				visit(v.Field(i), t.Name, kind, fn)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), name, kind, fn)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Elem(), name, kind, fn)
		}
	default:
		fn(v, name, kind)
	}
}

// each calls fn with random messages of every version that is rewritten. Tags of numbers 0 to 2 are in them: where kmsg had fields in
// tags it would read into them, and they would not come out again.
func each(t *testing.T, v *View, answer bool, ids []int32, fn func(r *rand.Rand, row apis.Row, version int16, m any, body []byte)) {
	t.Helper()
	r := newRand(1)
	n := 0
	for key := range int16(kmsg.MaxKey + 1) {
		if key == int16(kmsg.Produce) || key == int16(kmsg.Fetch) {
			continue // package walk
		}
		for version := range int16(20) {
			row, ok := apis.Of(key, version)
			if !ok || answer && !v.Answers(row) || !answer && !v.Requests(row) {
				continue
			}
			n++
			for range 100 {
				if req := kmsg.RequestForKey(key); answer {
					m := req.ResponseKind()
					fill(r, reflect.ValueOf(m).Elem(), "", ids)
					m.SetVersion(version)
					fn(r, row, version, m, m.AppendTo(nil))
				} else {
					fill(r, reflect.ValueOf(req).Elem(), "", ids)
					req.SetVersion(version)
					fn(r, row, version, req, req.AppendTo(nil))
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d versions are rewritten", n)
	}
}

// TestAnswer_TellsNothingReal: whatever the home answers, clients find no id, no host, no cluster and no epoch of it.
func TestAnswer_TellsNothingReal(t *testing.T) {
	v := view(t)
	each(t, v, true, []int32{-1, 101, 102, 103, 199}, func(_ *rand.Rand, row apis.Row, version int16, _ any, body []byte) {
		out, err := v.Answer(nil, int16(row.Key), version, body, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := kmsg.ResponseForKey(int16(row.Key))
		m.SetVersion(version)
		if err := m.ReadFrom(out); err != nil {
			t.Fatalf("%s v%d does not read: %v", row.Key.Name(), version, err)
		}
		visit(reflect.ValueOf(m), "", 0, func(f reflect.Value, name string, kind int64) {
			bad := false
			switch {
			case brokers[name]:
				bad = f.Int() > 3
			case name == "Host" || name == "ClusterID":
				bad = strings.HasPrefix(f.String(), "real")
			case name == "LeaderEpoch":
				bad = f.Int() != -1
			case (name == "ResourceName" || name == "Name" && row.Key == kmsg.ListConfigResources) && (kind == 4 || kind == 8):
				id, err := strconv.Atoi(f.String())
				bad = err == nil && id > 3
			}
			if bad {
				t.Fatalf("%s v%d tells %s %v", row.Key.Name(), version, name, f)
			}
		})
	})
}

// TestRequest_AsksForRealBrokers: what a client says of virtual brokers reaches the home as real ones, and no epoch does.
func TestRequest_AsksForRealBrokers(t *testing.T) {
	v := view(t)
	each(t, v, false, []int32{-1, 1, 2, 3, 4, 9}, func(_ *rand.Rand, row apis.Row, version int16, _ any, body []byte) {
		out, err := v.Request(nil, int16(row.Key), version, body)
		if err != nil {
			t.Fatal(err)
		}
		m := kmsg.RequestForKey(int16(row.Key))
		m.SetVersion(version)
		if err := m.ReadFrom(out); err != nil {
			t.Fatalf("%s v%d does not read: %v", row.Key.Name(), version, err)
		}
		wrong := func(id int64) bool { return id != -1 && id != nobody && (id < 101 || id > 103) }
		visit(reflect.ValueOf(m), "", 0, func(f reflect.Value, name string, kind int64) {
			bad := false
			switch {
			case brokers[name]:
				bad = wrong(f.Int())
			case name == "LeaderEpoch" || name == "CurrentLeaderEpoch":
				bad = f.Int() != -1
			case (name == "ResourceName" || name == "Name" && row.Key == kmsg.ListConfigResources) && (kind == 4 || kind == 8):
				id, err := strconv.Atoi(f.String())
				bad = err == nil && wrong(int64(id))
			}
			if bad {
				t.Fatalf("%s v%d asks with %s %v", row.Key.Name(), version, name, f)
			}
		})
	})
}

// TestRewrite_Identity: where slots have the ids, the addresses and the cluster of the home, and no epoch was there, every byte stays,
// unknown tags too.
func TestRewrite_Identity(t *testing.T) {
	v, err := NewView("", []Slot{{101, 101, "real.example", 9}, {102, 102, "real.example", 9}, {103, 103, "real.example", 9}})
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []bool{false, true} {
		each(t, v, answer, []int32{-1, 101, 102, 103}, func(_ *rand.Rand, row apis.Row, version int16, m any, _ []byte) {
			prepare(reflect.ValueOf(m).Elem(), "")
			body := m.(interface{ AppendTo([]byte) []byte }).AppendTo(nil)
			if n, err := Elements(int16(row.Key), version, answer, body); err != nil || n > len(body) {
				t.Fatalf("%d elements, %v", n, err)
			}
			do := v.Request
			if answer {
				do = func(dst []byte, key, version int16, body []byte) ([]byte, error) {
					return v.Answer(dst, key, version, body, nil)
				}
			}
			out, err := do([]byte("head"), int16(row.Key), version, bytes.Clone(body))
			if err != nil || !bytes.Equal(out, append([]byte("head"), body...)) {
				t.Fatalf("%s v%d, answer %v: %v\n got % x\nwant % x", row.Key.Name(), version, answer, err, out[4:], body)
			}
		})
	}
}

// prepare sets epochs and addresses to what identity leaves alone.
func prepare(v reflect.Value, _ string) {
	visitStructs(v, func(s reflect.Value) {
		for _, name := range []string{"LeaderEpoch", "CurrentLeaderEpoch"} {
			if f := s.FieldByName(name); f.IsValid() {
				f.SetInt(-1)
			}
		}
		if f := s.FieldByName("NodeID"); f.IsValid() {
			if f.Int() < 0 {
				f.SetInt(101)
			}
			s.FieldByName("Host").SetString("real.example")
			s.FieldByName("Port").SetInt(9)
		}
	})
}

func visitStructs(v reflect.Value, fn func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return
		}
		fn(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				visitStructs(v.Field(i), fn)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			visitStructs(v.Index(i), fn)
		}
	}
}

func FuzzRewrite(f *testing.F) {
	v, err := NewView("c", []Slot{{1, 101, "h", 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(3), uint8(9), true, kmsg.NewPtrMetadataResponse().AppendTo(nil))
	f.Add(uint8(8), uint8(8), false, kmsg.NewPtrOffsetCommitRequest().AppendTo(nil))
	f.Fuzz(func(t *testing.T, key, version uint8, answer bool, body []byte) {
		row, ok := apis.Of(int16(key), int16(version))
		if !ok || answer && !v.Answers(row) || !answer && !v.Requests(row) || row.Key <= kmsg.Fetch {
			t.Skip()
		}
		if _, err := Elements(int16(key), int16(version), answer, body); err != nil {
			return
		}
		do := v.Request
		if answer {
			do = func(dst []byte, key, version int16, body []byte) ([]byte, error) {
				return v.Answer(dst, key, version, body, nil)
			}
		}
		out, err := do(nil, int16(key), int16(version), body)
		if err != nil {
			return // null for a text that may not be null has its shape
		}
		if again, err := do(nil, int16(key), int16(version), out); err == nil && answer && len(again) > len(out) {
			t.Fatalf("% x grows to % x", out, again)
		}
	})
}

func BenchmarkAnswer_Metadata(b *testing.B) {
	v := view(b)
	m := kmsg.NewPtrMetadataResponse()
	m.SetVersion(9)
	for id := range int32(3) {
		m.Brokers = append(m.Brokers, kmsg.MetadataResponseBroker{NodeID: 101 + id, Host: "real.example", Port: 9092})
	}
	name := "orders"
	for range 10 {
		topic := kmsg.MetadataResponseTopic{Topic: &name}
		for p := range int32(12) {
			topic.Partitions = append(topic.Partitions, kmsg.MetadataResponseTopicPartition{Partition: p, Leader: 101 + p%3, Replicas: []int32{101, 102, 103}, ISR: []int32{101, 102, 103}})
		}
		m.Topics = append(m.Topics, topic)
	}
	body := m.AppendTo(nil)
	var out []byte
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Elements(3, 9, true, body); err != nil {
			b.Fatal(err)
		}
		var err error
		if out, err = v.Answer(out[:0], 3, 9, body, nil); err != nil {
			b.Fatal(err)
		}
	}
}
