package batch

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// Two bubbles of one process use the codecs one after the other, and at once within each:
// nothing that a codec keeps may belong to a bubble.
func TestCodecs_OutliveABubble(t *testing.T) {
	recs := makeRecords(rand.New(rand.NewPCG(3, 3)), 20, 2000)
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			done := make(chan struct{})
			const callers = 20
			for range callers {
				go func() {
					defer func() { done <- struct{}{} }()
					for _, c := range allCodecs {
						raw, err := Encode(nil, recs, c, Stamp{})
						if err != nil {
							t.Error(err)
							return
						}
						got, err := Decode(raw, testLimit)
						if err != nil || len(got) != len(recs) || !bytes.Equal(got[0].Value, recs[0].Value) {
							t.Errorf("%v: %d records, %v", c, len(got), err)
						}
					}
				}()
			}
			for range callers {
				<-done
			}
		})
	}
}
