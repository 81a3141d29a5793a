package process

import "testing"

// TestReservePorts_KeepsOthersAway checks that a reserved port is not given twice, although nothing listens on it.
func TestReservePorts_KeepsOthersAway(t *testing.T) {
	ports, locks, err := ReservePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	if ports[0] == ports[1] {
		t.Errorf("port %d was given twice", ports[0])
	}
	if _, err := reservePort(ports[0]); err == nil {
		t.Errorf("port %d was given while it was reserved", ports[0])
	}
	if err := CloseAll(locks); err != nil {
		t.Fatal(err)
	}
	again, err := reservePort(ports[0])
	if err != nil {
		t.Fatalf("port %d cannot be had after its release: %v", ports[0], err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestReserveRange_IsInARow checks that all ports of a range are its own.
func TestReserveRange_IsInARow(t *testing.T) {
	first, locks, err := ReserveRange(3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := reservePort(first + i); err == nil {
			t.Errorf("port %d was given while it was reserved", first+i)
		}
	}
	if err := CloseAll(locks); err != nil {
		t.Fatal(err)
	}
}
