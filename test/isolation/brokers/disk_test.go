package brokers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// smallDisk puts a disk of so many bytes in the place of a folder for the time of the test, and reports whether it may: it needs root.
func smallDisk(t *testing.T, dir string, bytes int64) bool {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Logf("mount a small tmpfs, which needs root: %v", err)
		return false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return true
}

func filler(dir string) string { return filepath.Join(dir, "filler") }

// fillDisk takes all the space of a disk.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filler(dir))
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// emptyDisk gives it back.
func emptyDisk(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filler(dir)); err != nil {
		t.Fatal(err)
	}
}
