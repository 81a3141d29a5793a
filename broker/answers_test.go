package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestCheckedConn_SlowAnswerEnds: one that is in time with each piece would hold the connection, which all share, for an hour.
func TestCheckedConn_SlowAnswerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := &checkedConn{Conn: ours}
		done := make(chan struct{})
		defer func() {
			_ = c.Close()
			<-done
		}()
		go func() {
			defer close(done)
			if _, err := io.ReadFull(theirs, make([]byte, 14)); err != nil {
				return
			}
			head := binary.BigEndian.AppendUint32(nil, maxPlainAnswer)
			if _, err := theirs.Write(binary.BigEndian.AppendUint32(head, 7)); err != nil {
				return
			}
			for chunk := make([]byte, readChunk/4); ; time.Sleep(ioTimeout/4 - time.Second) {
				if _, err := theirs.Write(chunk); err != nil {
					return
				}
			}
		}()
		request := binary.BigEndian.AppendUint32(nil, 10)
		request = binary.BigEndian.AppendUint16(request, uint16(kmsg.Metadata))
		request = binary.BigEndian.AppendUint16(request, 12)
		request = binary.BigEndian.AppendUint32(request, 7)
		if _, err := c.Write(append(request, 0, 0)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := c.Read(make([]byte, 4))
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < ioTimeout || took > answerTimeout {
			t.Errorf("%v after %v, want the end of its time after %v", err, took, answerTimeout)
		}
	})
}
