package real

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// disk is a small one, for one broker.
type disk struct {
	t   testing.TB
	dir string
}

// newDisk mounts one for the time of the test; nil without the right to.
func newDisk(t testing.TB, bytes int64) *disk {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Logf("no disk will be full: mount a small tmpfs, which needs root: %v", err)
		return nil
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &disk{t, dir}
}

// fill takes all that is left of the disk.
func (d *disk) fill() error {
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// empty gives it back.
func (d *disk) empty() {
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil {
		d.t.Errorf("empty the disk: %v", err)
	}
}
