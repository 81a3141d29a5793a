package shape

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Shape is what a request or an answer of one key and version looks like on the wire.
type Shape struct {
	fields   []field
	flexible bool
	answer   bool
	key      int16
}

// Flexible reports whether the version has compact lengths and tags.
func (s *Shape) Flexible() bool { return s.flexible }

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
	// ElementBytes is what one array element costs kmsg in memory, roughly.
	ElementBytes = 128
	// unreadTag is a number that no message has a meaning for.
	unreadTag = 64
	// fetchReplicaState is a tag that only follower brokers send. It is the
	// one tag that kmsg reads into, where it would meet tags again.
	fetchReplicaState = 1
)

// Shapes learns each shape once. The zero value is ready; any goroutine may use it.
type Shapes struct{ known sync.Map } // id -> *Shape

type id struct {
	key, version int16
	answer       bool
}

// Request returns the shape of a request. The error names a key that kmsg does not know.
func (s *Shapes) Request(key, version int16) (*Shape, error) { return s.of(id{key, version, false}) }

// Answer returns the shape of an answer, from after its header on.
func (s *Shapes) Answer(key, version int16) (*Shape, error) { return s.of(id{key, version, true}) }

func (s *Shapes) of(i id) (*Shape, error) {
	if known, ok := s.known.Load(i); ok {
		return known.(*Shape), nil
	}
	learned, err := learn(i)
	if err != nil {
		return nil, err
	}
	s.known.Store(i, learned)
	return learned, nil
}

// message is a request or an answer of kmsg's.
type message interface {
	SetVersion(int16)
	IsFlexible() bool
	AppendTo([]byte) []byte
}

// learn tries out every field of a message.
func learn(i id) (*Shape, error) {
	var m message
	if req := kmsg.RequestForKey(i.key); req != nil {
		m = req
		if i.answer {
			m = req.ResponseKind()
		}
	}
	if m == nil {
		return nil, fmt.Errorf("learn shape: no request has key %d", i.key)
	}
	root := reflect.ValueOf(m).Elem()
	populate(root)
	m.SetVersion(i.version)
	l := learner{of: m}
	fields, err := l.object(root)
	if err != nil {
		return nil, fmt.Errorf("learn shape of %s v%d: %w", kmsg.NameForKey(i.key), i.version, err)
	}
	return &Shape{fields: fields, flexible: m.IsFlexible(), answer: i.answer, key: i.key}, nil
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

type learner struct{ of message }

func (l *learner) object(v reflect.Value) ([]field, error) {
	var fields []field
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() || t.Type == tagsType || v.Addr().Interface() == any(l.of) && t.Name == "Version" {
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
	// One element less takes as many bytes away as one more adds; in a tag section, where an empty array is left out, more.
	changed, shrunk := l.change(v, reflect.MakeSlice(v.Type(), 0, 0))
	_, grown := l.change(v, reflect.Append(v, v.Index(0)))
	if !changed || grown != -shrunk {
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
	before := l.of.AppendTo(nil)
	was := reflect.ValueOf(v.Interface())
	v.Set(to)
	after := l.of.AppendTo(nil)
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

// Walk reports whether body is exactly one message of this shape, and how many array elements it has. In an answer it
// changes the numbers of all tags to ones that nobody reads: kmsg would trust the counts that it finds inside of them.
func (s *Shape) Walk(body []byte) (elements int, ok bool) { return s.walk(body, s.answer) }

// Fits is Walk without changing anything, for answers that are passed on with their tags. It is right only where kmsg has no fields in
// tags; there it keeps them as they are.
func (s *Shape) Fits(body []byte) (elements int, ok bool) { return s.walk(body, false) }

func (s *Shape) walk(body []byte, renumber bool) (elements int, ok bool) {
	w := Walker{Rest: body, Flexible: s.flexible, renumber: renumber}
	for i := range s.fields {
		if !w.field(&s.fields[i]) {
			return w.elements, false
		}
	}
	if s.flexible {
		if s.key == int16(kmsg.Fetch) && !s.answer {
			w.noTag = fetchReplicaState
		}
		if !w.Tags() {
			return w.elements, false
		}
	}
	return w.elements, len(w.Rest) == 0
}

// Walker goes over the parts of a message. After a method returned false it is of no more use.
type Walker struct {
	Rest     []byte // what is still ahead
	Flexible bool   // lengths are compact
	elements int
	noTag    uint64 // a tag that is not welcome; 0 for none
	renumber bool
}

// Text skips a string or null.
func (w *Walker) Text() bool {
	n, ok := w.Length(2)
	return ok && w.Skip(max(n, 0))
}

func (w *Walker) field(f *field) bool {
	switch f.kind {
	case fixed:
		return w.Skip(f.size)
	case text:
		return w.Text()
	case blob:
		n, ok := w.Length(4)
		return ok && w.Skip(max(n, 0))
	case array:
		n, ok := w.Length(4)
		if !ok || n > len(w.Rest) { // no element is empty
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
		if len(w.Rest) == 0 {
			return false
		}
		null := w.Rest[0] == 0xff
		w.Rest = w.Rest[1:]
		return null || w.field(&f.fields[0])
	default:
		for i := range f.fields {
			if !w.field(&f.fields[i]) {
				return false
			}
		}
		return !w.Flexible || w.Tags()
	}
}

// Length reads a length or count: wide bytes, or a varint one too high in a
// flexible version. -1 is null.
func (w *Walker) Length(wide int) (int, bool) {
	if w.Flexible {
		n, ok := w.uvarint()
		return int(n) - 1, ok
	}
	if len(w.Rest) < wide {
		return 0, false
	}
	var n int
	if wide == 2 {
		n = int(int16(binary.BigEndian.Uint16(w.Rest)))
	} else {
		n = int(int32(binary.BigEndian.Uint32(w.Rest)))
	}
	w.Rest = w.Rest[wide:]
	return n, n >= -1
}

// Tags skips a section of tags.
func (w *Walker) Tags() bool {
	count, ok := w.uvarint()
	if !ok || count > maxTags {
		return false
	}
	for range count {
		number := w.Rest
		tag, ok := w.uvarint()
		if !ok || w.noTag != 0 && tag == w.noTag {
			return false
		}
		if w.renumber && tag < unreadTag {
			number[0] |= unreadTag
		}
		size, ok := w.uvarint()
		if !ok || size > uint64(len(w.Rest)) || !w.Skip(int(size)) {
			return false
		}
	}
	return true
}

// uvarint reads what Kafka calls an unsigned varint: at most 32 bit.
func (w *Walker) uvarint() (uint64, bool) {
	n, size := binary.Uvarint(w.Rest)
	if size <= 0 || size > binary.MaxVarintLen32 || n > 1<<32-1 {
		return 0, false
	}
	w.Rest = w.Rest[size:]
	return n, true
}

// Skip goes over n bytes.
func (w *Walker) Skip(n int) bool {
	if n > len(w.Rest) {
		return false
	}
	w.Rest = w.Rest[n:]
	return true
}
