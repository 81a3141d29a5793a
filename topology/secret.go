package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxSecretBytes bounds a file that a Secret refers to: far more than a certificate chain needs.
const maxSecretBytes = 1 << 20

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// errLiteralSecret does not hold the text it was given: that may be the secret.
var errLiteralSecret = errors.New(`literal secret; write "env:NAME" or "file:PATH" and keep the secret itself out of this file`)

// Secret refers to a secret by file or environment variable. It never holds the secret, so printing it is harmless.
// The zero value refers to nothing.
type Secret struct {
	ref  string // "file:PATH" or "env:NAME", as written
	base string // folder that a relative PATH starts from
}

// ParseSecret takes a reference, "file:PATH" or "env:NAME". Its error never repeats the text, which may be a secret
// that was pasted by mistake.
func ParseSecret(ref string) (Secret, error) {
	if path, ok := strings.CutPrefix(ref, "file:"); ok && path != "" && !strings.ContainsAny(path, "\x00\r\n") {
		return Secret{ref: ref}, nil
	}
	if name, ok := strings.CutPrefix(ref, "env:"); ok && envName.MatchString(name) {
		return Secret{ref: ref}, nil
	}
	return Secret{}, errLiteralSecret
}

// IsZero tells whether the secret refers to nothing.
func (s Secret) IsZero() bool { return s.ref == "" }

// String gives the reference as it was written.
func (s Secret) String() string { return s.ref }

// Resolve fetches the secret, without the newline that ends a file. It reads anew each time, so that a rotated secret
// is found. An empty secret is an error; no error holds any part of the secret.
func (s Secret) Resolve() ([]byte, error) {
	value, err := s.ResolveBytes()
	if err != nil {
		return nil, err
	}
	value = bytes.TrimSuffix(value, []byte("\n"))
	value = bytes.TrimSuffix(value, []byte("\r"))
	if len(value) == 0 {
		return nil, fmt.Errorf("resolve %s: the file is empty", s.ref)
	}
	return value, nil
}

// ResolveBytes is Resolve for what is not text, such as a keytab: a byte that looks like a newline at its end is kept.
func (s Secret) ResolveBytes() ([]byte, error) {
	if name, ok := strings.CutPrefix(s.ref, "env:"); ok {
		value := os.Getenv(name)
		if value == "" {
			return nil, fmt.Errorf("resolve %s: the variable is empty or not set", s.ref)
		}
		return []byte(value), nil
	}
	path, ok := s.File()
	if !ok {
		return nil, errors.New("resolve secret: no reference given")
	}
	value, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", s.ref, err)
	}
	return value, nil
}

// File returns the path of a secret that is in a file.
func (s Secret) File() (path string, ok bool) {
	path, ok = strings.CutPrefix(s.ref, "file:")
	if ok && !filepath.IsAbs(path) {
		path = filepath.Join(s.base, path)
	}
	return path, ok
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return nil, err
	}
	if len(value) > maxSecretBytes {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxSecretBytes)
	}
	if len(value) == 0 {
		return nil, errors.New("the file is empty")
	}
	return value, nil
}
