package broker

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestFresh_SlowReadDoesNotUndoALaterOne: a disk may take its time over what has been replaced since.
func TestFresh_SlowReadDoesNotUndoALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, slow := "old", time.Duration(0)
		f, err := newFresh(&notes{}, "sasl.password", func() (string, error) {
			read, takes := file, slow
			time.Sleep(takes)
			return read, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slow = time.Minute
		late := make(chan string)
		go func() { late <- f.get() }()
		synctest.Wait()
		file, slow = "new", 0
		if got := f.get(); got != "new" {
			t.Errorf("got %q, want what is there now", got)
		}
		if got := <-late; got != "new" || f.good != "new" {
			t.Errorf("the slow read gave %q and left %q, want the newer value", got, f.good)
		}
	})
}
