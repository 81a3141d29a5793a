package shape

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field to something random, arrays to up to two elements.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.Int64())
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(r.Uint64())
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.String:
		v.SetString([]string{"", "orders", "compact"}[r.IntN(3)])
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

// eachAnswer calls fn with a random answer of every key and version that kmsg knows.
func eachAnswer(t *testing.T, seed uint64, fn func(s *Shape, resp kmsg.Response, body []byte)) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, seed))
	var all Shapes
	keys := 0
	for key := range int16(200) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		keys++
		for version := range req.MaxVersion() + 1 {
			s, err := all.Answer(key, version)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				resp := req.ResponseKind()
				fill(r, reflect.ValueOf(resp).Elem())
				resp.SetVersion(version)
				fn(s, resp, resp.AppendTo(nil))
			}
		}
	}
	if keys < 60 {
		t.Errorf("only %d keys are known", keys)
	}
}

// TestAnswer_AgreesWithKmsg walks random answers: each passes whole, and not one byte shorter or longer. What kmsg reads after
// the walk has lost nothing but its tags.
func TestAnswer_AgreesWithKmsg(t *testing.T) {
	eachAnswer(t, 1, func(s *Shape, resp kmsg.Response, body []byte) {
		name := kmsg.NameForKey(resp.Key())
		if _, ok := s.Walk(append(bytes.Clone(body), 0)); ok {
			t.Fatalf("%s v%d: shape takes a byte too many", name, resp.GetVersion())
		}
		if len(body) > 0 {
			if _, ok := s.Walk(bytes.Clone(body[:len(body)-1])); ok {
				t.Fatalf("%s v%d: shape takes a byte too few", name, resp.GetVersion())
			}
		}
		if _, ok := s.Walk(body); !ok {
			t.Fatalf("%s v%d: shape refuses % x\n%+v", name, resp.GetVersion(), body, resp)
		}
		read := kmsg.ResponseForKey(resp.Key())
		read.SetVersion(resp.GetVersion())
		if err := read.ReadFrom(body); err != nil {
			t.Fatalf("%s v%d: kmsg does not read what was walked: %v", name, resp.GetVersion(), err)
		}
	})
}

// TestAnswer_FindsBombs puts the largest count at every place of an answer. kmsg would work on some of these for minutes; what
// passes it reads at once.
func TestAnswer_FindsBombs(t *testing.T) {
	n := 0
	eachAnswer(t, 2, func(s *Shape, resp kmsg.Response, body []byte) {
		if n++; n%40 != 0 {
			return
		}
		for i := range min(len(body), 100) {
			for _, count := range [][]byte{{0xff, 0xff, 0xff, 0xff, 0x0f}, {0x7f, 0xff, 0xff, 0xff}} {
				bomb := append(append(bytes.Clone(body[:i]), count...), body[min(len(body), i+len(count)):]...)
				elements, ok := s.Walk(bomb)
				if elements > len(bomb) {
					t.Fatalf("%s: %d elements in %d bytes", kmsg.NameForKey(resp.Key()), elements, len(bomb))
				}
				if !ok {
					continue
				}
				read := kmsg.ResponseForKey(resp.Key())
				read.SetVersion(resp.GetVersion())
				began := time.Now()
				_ = read.ReadFrom(bomb)
				if took := time.Since(began); took > 2*time.Second {
					t.Fatalf("%s v%d: kmsg is busy for %s with % x", kmsg.NameForKey(resp.Key()), resp.GetVersion(), took, bomb)
				}
			}
		}
	})
}

// TestFits_KeepsTags: what is passed on has the tags that came.
func TestFits_KeepsTags(t *testing.T) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.UnknownTags.Set(7, []byte("tag"))
	var all Shapes
	s, err := all.Answer(resp.Key(), 0)
	if err != nil {
		t.Fatal(err)
	}
	body := resp.AppendTo(nil)
	was := bytes.Clone(body)
	if _, ok := s.Fits(body); !ok || !bytes.Equal(body, was) {
		t.Errorf("fits %v, % x, was % x", ok, body, was)
	}
	if _, ok := s.Walk(body); !ok || bytes.Equal(body, was) {
		t.Errorf("Walk keeps tags: %v", ok)
	}
	if _, ok := s.Fits(was[:len(was)-1]); ok {
		t.Error("a cut answer fits")
	}
}
