package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-project/isthmus/topology"
)

// keepKeys returns what writes the gossip keys of a rotation back to where the node read them, so that it finds them at its next
// start: nil where there are none.
func keepKeys(ref topology.Secret) func(keys [][]byte) error {
	if ref.IsZero() {
		return nil
	}
	return func(keys [][]byte) error {
		path, ok := ref.File()
		if !ok {
			return fmt.Errorf("the key is used from now on, but %s cannot be written by a node: give it the new key before its next start", ref)
		}
		if err := writeKeys(path, keys); err != nil {
			return fmt.Errorf("the key is used from now on, but not after a restart: write %s: %w", ref, err)
		}
		return nil
	}
}

// writeKeys replaces a key file whole, with the rights that it has: a crash leaves the old one or the new one.
func writeKeys(path string, keys [][]byte) (err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	was, err := os.Stat(real)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Gossip keys, written by a rotation. The first encrypts, all of them decrypt.\n")
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	f, err := os.CreateTemp(filepath.Dir(real), ".gossip-key-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(b.String())
	err = errors.Join(err, f.Chmod(was.Mode().Perm()), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), real)
}
