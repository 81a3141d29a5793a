package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// JSON writes a message of the admin API the way jq and scripts like it, on one line: every field, in the order of the .proto
// and under its name there; 64-bit numbers as numbers; enums in lower case without the name of their type; times in RFC 3339,
// null if unset. (protojson quotes 64-bit numbers and promises no stable form.)
func JSON(m proto.Message) ([]byte, error) {
	var b bytes.Buffer
	if err := writeMessage(&b, m.ProtoReflect()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeMessage(b *bytes.Buffer, m protoreflect.Message) error {
	b.WriteByte('{')
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%q:", f.Name())
		if err := writeField(b, m, f); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeField(b *bytes.Buffer, m protoreflect.Message, f protoreflect.FieldDescriptor) error {
	switch {
	case f.IsMap():
		return fmt.Errorf("write %s as JSON: maps are not supported", f.FullName())
	case f.IsList():
		b.WriteByte('[')
		list := m.Get(f).List()
		for i := range list.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeValue(b, f, list.Get(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case f.Message() != nil && !m.Has(f):
		b.WriteString("null")
		return nil
	}
	return writeValue(b, f, m.Get(f))
}

func writeValue(b *bytes.Buffer, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	var plain any
	switch f.Kind() {
	case protoreflect.MessageKind:
		m := v.Message()
		t, ok := m.Interface().(*timestamppb.Timestamp)
		if !ok {
			return writeMessage(b, m)
		}
		plain = t.AsTime().Format(time.RFC3339Nano)
	case protoreflect.EnumKind:
		plain = enumName(f.Enum(), v.Enum())
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		if plain = v.Float(); math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			plain = nil // JSON has no such numbers
		}
	default:
		plain = v.Interface()
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return fmt.Errorf("write %s as JSON: %w", f.FullName(), err)
	}
	b.Write(text)
	return nil
}

// enumName is the value's name without that of its type; a number this program does not know is written as such.
func enumName(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) any {
	v := e.Values().ByNumber(n)
	if v == nil {
		return int32(n)
	}
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), enumPrefix(e.Name())))
}

// enumPrefix is what the values of a type begin with: MEMBER_STATUS_ for MemberStatus.
func enumPrefix(name protoreflect.Name) string {
	var b strings.Builder
	for i, r := range string(name) {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String() + "_"
}

// Name is the name of a state as people read it: running, retrying.
func Name[E protoreflect.Enum](e E) string {
	return fmt.Sprint(enumName(e.Descriptor(), e.Number()))
}
