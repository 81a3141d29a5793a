package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Errors of New that name what is wrong with the data directory. Each can be
// cured from outside, so a caller may try again.
var (
	ErrReadOnly    = errors.New("data directory is not writable")
	ErrNewerFormat = errors.New("data directory is of a newer format")
	ErrInUse       = errors.New("data directory is in use by another process")
	ErrForeign     = errors.New("directory holds files but no isthmus data")
)

// Files of ours beside kfake's.
const (
	formatFile = "isthmus-format" // the format version, a decimal number
	lockFile   = "isthmus-lock"   // flock; its text is the holder's process id
	cleanFile  = "isthmus-clean"  // present while the last stop was orderly

	formatVersion = 1
)

// dataDir is a data directory that this process holds.
type dataDir struct {
	path string
	lock *os.File
}

// openDir creates, locks and checks a data directory.
func openDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, dirError("create", path, err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.checkFormat(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func lockDir(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, dirError("open", name, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0)
		return nil, fmt.Errorf("lock %s: %w (process %s); stop it or choose another dir", path, ErrInUse, strings.TrimSpace(string(holder[:n])))
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return nil, dirError("write", name, err)
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// checkFormat reads the format version, or writes it into a new directory.
func (d *dataDir) checkFormat() error {
	name := filepath.Join(d.path, formatFile)
	raw, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := d.checkEmpty(); err != nil {
			return err
		}
		if err := writeFileSync(name, []byte(strconv.Itoa(formatVersion)+"\n")); err != nil {
			return dirError("write", name, err)
		}
		return nil
	case err != nil:
		return dirError("read", name, err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return fmt.Errorf("read %s: %q is not a format version; restore the file (this build writes %d)", name, raw, formatVersion)
	}
	if version > formatVersion {
		return fmt.Errorf("open %s: %w: %d, this build reads up to %d; start a newer isthmus", d.path, ErrNewerFormat, version, formatVersion)
	}
	// A cured disk must be writable before kfake finds out by losing data.
	probe := filepath.Join(d.path, lockFile+".probe")
	if err := writeFileSync(probe, nil); err != nil {
		return dirError("write", probe, err)
	}
	return os.Remove(probe)
}

func (d *dataDir) checkEmpty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return dirError("read", d.path, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "isthmus-") {
			return fmt.Errorf("open %s: %w (%s, but no %s); choose an empty dir", d.path, ErrForeign, e.Name(), formatFile)
		}
	}
	return nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) close() { d.lock.Close() }

// dirError adds ErrReadOnly to the errors that a read-only disk or missing
// rights cause.
func dirError(verb, name string, err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s %s: %w: %w", verb, name, ErrReadOnly, err)
	}
	return fmt.Errorf("%s %s: %w", verb, name, err)
}

// writeFileSync replaces a file so that a crash leaves the old or the new one.
func writeFileSync(name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// diskFree is the space that this process may still fill on dir's disk.
func diskFree(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
