package pack

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestReader(t *testing.T) {
	b := binary.AppendVarint(String(binary.AppendUvarint([]byte{7}, 300), "orders"), -5)
	version, r := Read(b)
	if n, s, i := r.Uint(300), r.String(), r.Int(); version != 7 || n != 300 || s != "orders" || i != -5 || r.Left() != 0 || r.Err() != nil {
		t.Errorf("version %d, %d, %q, %d, %d left, %v", version, n, s, i, r.Left(), r.Err())
	}
	for cut := range b {
		_, r := Read(b[:cut])
		r.Uint(300)
		_ = r.String()
		r.Int()
		if !errors.Is(r.Err(), ErrDamaged) || r.Left() != 0 {
			t.Errorf("%d of %d bytes: %v, %d left", cut, len(b), r.Err(), r.Left())
		}
	}
	if _, r := Read(b); r.Uint(299) != 0 || !errors.Is(r.Err(), ErrDamaged) || r.Uint(1) != 0 {
		t.Error("a number over its limit was read, or something behind a fault")
	}
	if _, r := Read(binary.AppendUvarint([]byte{1}, 1<<30)); r.String() != "" || r.Err() == nil {
		t.Error("a string longer than its chunk was read")
	}
}
