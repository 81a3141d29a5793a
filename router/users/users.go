package users

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// Fresh is how long users are believed without reading their file again. Reading takes a twentieth of the time at most, though: with
// thousands of files of secrets it is longer.
const (
	Fresh      = time.Second
	readsShare = 20
)

// Users are those of a file that is read again as it changes. A file that cannot be used leaves those it had last. Any goroutine may use it.
type Users struct {
	file topology.Secret
	now  func() time.Time

	mu     sync.Mutex // not held while reading
	good   *Book
	until  time.Time // the file is not read before
	failed error
}

// New reads the users for the first time. Its error says all that is wrong in the file, with lines, and no secret.
func New(file topology.Secret, now func() time.Time) (*Users, error) {
	who, err := read(file)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // it never fails
	began := now()
	return &Users{file: file, now: now, good: newBook(who, salt), until: began.Add(Fresh)}, nil
}

// Now is who is known now, give or take a second.
func (u *Users) Now() *Book {
	began := u.now()
	u.mu.Lock()
	if began.Before(u.until) {
		defer u.mu.Unlock()
		return u.good
	}
	u.until = began.Add(time.Minute) // the others go on with what there is
	u.mu.Unlock()
	who, err := read(u.file)
	u.mu.Lock()
	defer u.mu.Unlock()
	ended := u.now()
	u.until = ended.Add(max(Fresh, readsShare*ended.Sub(began)))
	if u.failed = err; err == nil && !maps.EqualFunc(who, u.good.byName, (*User).same) {
		u.good = newBook(who, u.good.salt)
	}
	return u.good
}

// Trouble is why the file could not be used when it was read last; nil if it was.
func (u *Users) Trouble() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

// read reads the file and all that it refers to.
func read(file topology.Secret) (map[string]*User, error) {
	text, err := file.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	path, _ := file.File()
	list, err := topology.ParseUsers(path, text)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	var errs []error
	secret := func(u topology.User, key string, ref topology.Secret) []byte {
		value, err := ref.Resolve()
		if err == nil && bytes.IndexByte(value, 0) >= 0 {
			err = fmt.Errorf("%s holds a zero byte, which no mechanism can send", ref)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("credentials: %s:%d: user %q: %s: %w", path, u.Line, u.Name, key, err))
		}
		return value
	}
	out := make(map[string]*User, len(list))
	for _, u := range list {
		one := &User{Name: u.Name, subject: u.Certificate, at: make(map[string]Own, len(u.At))}
		if !u.Password.IsZero() {
			one.password = secret(u, "password", u.Password)
		}
		for cluster, own := range u.At {
			one.at[cluster] = Own{own.Mechanism, own.User, string(secret(u, "at."+cluster+".password", own.Password))}
		}
		out[u.Name] = one
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}
