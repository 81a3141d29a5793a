//go:build !linux

package real

import (
	"errors"
	"testing"
)

// disk is a small one. There is none here.
type disk struct{ dir string }

func newDisk(testing.TB, int64) *disk { return nil }
func (d *disk) fill() error           { return errors.ErrUnsupported }
func (d *disk) empty()                {}
