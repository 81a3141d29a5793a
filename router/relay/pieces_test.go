package relay

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"
)

// TestRelay_Pieces: a long frame passes in long pieces while there is one to have, in shorter ones otherwise, and gives it back.
func TestRelay_Pieces(t *testing.T) {
	for _, tc := range []struct {
		name    string
		pieces  *semaphore.Weighted
		longest int
	}{
		{"there is one", semaphore.NewWeighted(1), PieceSize},
		{"others have them", semaphore.NewWeighted(0), chunkSize},
		{"none at all", nil, chunkSize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.Pieces = tc.pieces })
			post(l.client, request(1, 12, kmsg.NewPtrFetchRequest()))
			broker := <-l.broker
			asked(t, broker, kmsg.Fetch, 1)
			body := fetchAnswer(4, 200<<10)
			post(broker, append(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), append([]byte{0, 0, 0, 1}, body...)...))
			longest, all := 0, 0
			for buf := make([]byte, 1<<20); all < 8+len(body); {
				n, err := l.client.Read(buf) // of a pipe: what was written at once
				if err != nil {
					t.Fatal(err)
				}
				longest, all = max(longest, n), all+n
			}
			if longest != tc.longest {
				t.Errorf("it passed in pieces of %d bytes, want %d", longest, tc.longest)
			}
			_ = l.client.Close()
			l.end("", nil)
			if tc.pieces != nil && tc.longest == PieceSize && !tc.pieces.TryAcquire(1) {
				t.Error("the piece was not given back")
			}
		})
	}
}

// TestRelay_LongHeader: a header that is longer than what is read at first arrives as it is, and so does what stands behind it.
func TestRelay_LongHeader(t *testing.T) {
	l := newLab(t, nil)
	id := strings.Repeat("x", 2000)
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(id))
	m := kmsg.NewPtrHeartbeatRequest()
	m.SetVersion(4)
	first, second := f.AppendRequest(nil, m, 1), f.AppendRequest(nil, m, 2)
	post(l.client, append(first, second...))
	broker := <-l.broker
	for i, want := range [][]byte{first, second} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(broker, got); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("request %d arrived as another one", i+1)
		}
		send(t, broker, answer(int32(i+1), 4, kmsg.NewPtrHeartbeatResponse()))
		expect(t, l.client, int32(i+1))
	}
	_ = l.client.Close()
	l.end("", nil)
}
