package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A shape is what a request of one key and version looks like on the wire. A
// frame is walked along its shape before anything is read for good, because
// kmsg's own reader trusts counts: a tag count of 2^32-1 in a frame of 20 bytes
// keeps it busy for a minute, and an array count is believed up to one element
// per byte that is left, which are hundreds of bytes of memory each.
//
// kmsg does not publish shapes, so they are learned from it: its structs list
// their fields in wire order, and whether a version has a field shows when the
// field is changed and the request encoded again.
type shape struct {
	fields   []field
	flexible bool
}

type fieldKind uint8

const (
	fixed  fieldKind = iota // size bytes
	text                    // length (16 bit, or compact) and bytes; -1 is null
	blob                    // the same with a length of 32 bit
	array                   // count (32 bit, or compact) and elements; -1 is null
	object                  // fields, then tags if the version is flexible
	option                  // -1, or any other byte and an object
)

type field struct {
	kind   fieldKind
	size   int     // fixed
	fields []field // object; of an array or option: its one element
}

const (
	// maxTags is per tag section. Clients send none; the future may bring some.
	maxTags = 64
	// elementBytes is what one array element costs kmsg in memory, roughly.
	elementBytes = 128
	// fetchReplicaState is a tag that only follower brokers send. It is the
	// one tag that kmsg reads into, where it would meet tags again.
	fetchReplicaState = 1
)

// shapes learns each shape once.
type shapes struct{ known sync.Map } // [2]int16{key, version} -> *shape

func (s *shapes) of(key, version int16) (*shape, error) {
	id := [2]int16{key, version}
	if known, ok := s.known.Load(id); ok {
		return known.(*shape), nil
	}
	learned, err := learnShape(key, version)
	if err != nil {
		return nil, err
	}
	s.known.Store(id, learned)
	return learned, nil
}

// learnShape tries out every field of a request.
func learnShape(key, version int16) (*shape, error) {
	req := kmsg.RequestForKey(key)
	if req == nil {
		return nil, fmt.Errorf("learn shape: no request has key %d", key)
	}
	root := reflect.ValueOf(req).Elem()
	populate(root)
	req.SetVersion(version)
	l := learner{req: req}
	fields, err := l.object(root)
	if err != nil {
		return nil, fmt.Errorf("learn shape of %s v%d: %w", kmsg.NameForKey(key), version, err)
	}
	return &shape{fields: fields, flexible: req.IsFlexible()}, nil
}

// populate gives v its defaults and every array one element.
func populate(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
		d.Default()
	}
	for i := range v.NumField() {
		f := v.Field(i)
		if !v.Type().Field(i).IsExported() || f.Type() == tagsType {
			continue
		}
		if f.Kind() == reflect.Slice && f.Type().Elem().Kind() != reflect.Uint8 {
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			f = f.Index(0)
		}
		if f.Kind() == reflect.Struct {
			populate(f)
		}
	}
}

var tagsType = reflect.TypeFor[kmsg.Tags]()

type learner struct{ req kmsg.Request }

func (l *learner) object(v reflect.Value) ([]field, error) {
	var fields []field
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() || t.Type == tagsType || v.Addr().Interface() == any(l.req) && t.Name == "Version" {
			continue
		}
		f, present, err := l.field(v.Field(i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		if present {
			fields = append(fields, f)
		}
	}
	return fields, nil
}

// field learns one field: its kind from its Go type, and from the encoding
// whether this version has it outside of a tag section. A changed number in a
// tag section shows by the length, because defaults are left out there.
func (l *learner) field(v reflect.Value) (field, bool, error) {
	switch v.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Int64, reflect.Float64, reflect.Array:
		changed, grown := l.change(v, other(v))
		return field{kind: fixed, size: int(v.Type().Size())}, changed && grown == 0, nil
	case reflect.String:
		changed, grown := l.change(v, reflect.ValueOf(v.String()+"x").Convert(v.Type()))
		return field{kind: text}, changed && grown == 1, nil
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct {
			return l.option(v)
		}
		v.SetZero()
		changed, grown := l.change(v, reflect.ValueOf(kmsg.StringPtr("x")))
		return field{kind: text}, changed && grown == 1, nil
	case reflect.Struct:
		fields, err := l.object(v)
		return field{kind: object, fields: fields}, len(fields) > 0, err
	case reflect.Slice:
		return l.slice(v)
	}
	return field{}, false, fmt.Errorf("unknown type %s", v.Type())
}

func (l *learner) option(v reflect.Value) (field, bool, error) {
	v.SetZero()
	elem := reflect.New(v.Type().Elem())
	populate(elem.Elem())
	if changed, _ := l.change(v, elem); !changed {
		return field{}, false, nil
	}
	v.Set(elem)
	fields, err := l.object(elem.Elem())
	return field{kind: option, fields: []field{{kind: object, fields: fields}}}, true, err
}

func (l *learner) slice(v reflect.Value) (field, bool, error) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		changed, grown := l.change(v, reflect.ValueOf([]byte("x")))
		return field{kind: blob}, changed && grown == 1, nil
	}
	if changed, _ := l.change(v, reflect.MakeSlice(v.Type(), 0, 0)); !changed {
		return field{}, false, nil
	}
	elem := v.Index(0)
	if elem.Kind() == reflect.Struct {
		fields, err := l.object(elem)
		return field{kind: array, fields: []field{{kind: object, fields: fields}}}, true, err
	}
	f, present, err := l.field(elem)
	if err == nil && !present {
		err = fmt.Errorf("elements of %s do not show", v.Type())
	}
	return field{kind: array, fields: []field{f}}, true, err
}

// change encodes the request with v as it is and as to, and restores v.
func (l *learner) change(v, to reflect.Value) (changed bool, grown int) {
	before := l.req.AppendTo(nil)
	was := reflect.ValueOf(v.Interface())
	v.Set(to)
	after := l.req.AppendTo(nil)
	v.Set(was)
	return !bytes.Equal(before, after), len(after) - len(before)
}

// other is a value of v's type that is not v.
func other(v reflect.Value) reflect.Value {
	o := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Bool:
		o.SetBool(!v.Bool())
	case reflect.Uint16:
		o.SetUint(v.Uint() + 1)
	case reflect.Float64:
		o.SetFloat(v.Float() + 1)
	case reflect.Array:
		o.Set(v)
		o.Index(0).SetUint(o.Index(0).Uint() ^ 1)
	default:
		o.SetInt(v.Int() ^ 1)
	}
	return o
}

// walk reports whether body is exactly one request of this shape, and how
// many array elements it has.
func (s *shape) walk(body []byte, key int16) (elements int, ok bool) {
	w := walker{rest: body, flexible: s.flexible}
	for i := range s.fields {
		if !w.field(&s.fields[i]) {
			return w.elements, false
		}
	}
	if s.flexible {
		if key == int16(kmsg.Fetch) {
			w.noTag = fetchReplicaState
		}
		if !w.tags() {
			return w.elements, false
		}
	}
	return w.elements, len(w.rest) == 0
}

type walker struct {
	rest     []byte
	flexible bool
	elements int
	noTag    uint64 // a tag that is not welcome; 0 for none
}

func (w *walker) field(f *field) bool {
	switch f.kind {
	case fixed:
		return w.skip(f.size)
	case text:
		n, ok := w.length(2)
		return ok && w.skip(max(n, 0))
	case blob:
		n, ok := w.length(4)
		return ok && w.skip(max(n, 0))
	case array:
		n, ok := w.length(4)
		if !ok || n > len(w.rest) { // no element is empty
			return false
		}
		w.elements += max(n, 0)
		for range n {
			if !w.field(&f.fields[0]) {
				return false
			}
		}
		return true
	case option:
		if len(w.rest) == 0 {
			return false
		}
		null := w.rest[0] == 0xff
		w.rest = w.rest[1:]
		return null || w.field(&f.fields[0])
	default:
		for i := range f.fields {
			if !w.field(&f.fields[i]) {
				return false
			}
		}
		return !w.flexible || w.tags()
	}
}

// length reads a length or count: wide bytes, or a varint one too high in a
// flexible version. -1 is null.
func (w *walker) length(wide int) (int, bool) {
	if w.flexible {
		n, ok := w.uvarint()
		return int(n) - 1, ok
	}
	if len(w.rest) < wide {
		return 0, false
	}
	var n int
	if wide == 2 {
		n = int(int16(binary.BigEndian.Uint16(w.rest)))
	} else {
		n = int(int32(binary.BigEndian.Uint32(w.rest)))
	}
	w.rest = w.rest[wide:]
	return n, n >= -1
}

func (w *walker) tags() bool {
	count, ok := w.uvarint()
	if !ok || count > maxTags {
		return false
	}
	for range count {
		tag, ok := w.uvarint()
		if !ok || w.noTag != 0 && tag == w.noTag {
			return false
		}
		size, ok := w.uvarint()
		if !ok || size > uint64(len(w.rest)) || !w.skip(int(size)) {
			return false
		}
	}
	return true
}

// uvarint reads what Kafka calls an unsigned varint: at most 32 bit.
func (w *walker) uvarint() (uint64, bool) {
	n, size := binary.Uvarint(w.rest)
	if size <= 0 || size > binary.MaxVarintLen32 || n > 1<<32-1 {
		return 0, false
	}
	w.rest = w.rest[size:]
	return n, true
}

func (w *walker) skip(n int) bool {
	if n > len(w.rest) {
		return false
	}
	w.rest = w.rest[n:]
	return true
}
