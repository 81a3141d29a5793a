package topology

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// User is somebody who may come in at a router with auth = "terminate", and who he is at the clusters behind it.
type User struct {
	// Name is whom the door takes him for: in logins, quotas and lists of clients.
	Name string
	// Line is where he is written, for messages about him.
	Line int
	// Password proves him by PLAIN and SCRAM; zero for who comes by certificate alone.
	Password Secret
	// Certificate is the subject of a client's certificate that proves him, as quotas and lists of clients have it; may be empty.
	Certificate string
	// At are his own logins, by cluster: of PLAIN and SCRAM, with mechanism, user and password. Where he has none he does not get in.
	At map[string]SASL
}

// credentialsVersion is the one version of a file of users that there is.
const credentialsVersion = "1"

// Mechanisms of a user's own login at a cluster.
var ownMechanisms = []string{Plain, ScramSHA256, ScramSHA512}

// ParseUsers reads the text of a file of users. name is the file's path: it begins every error, and relative paths in the text start
// from its folder. An error is Errors and holds all faults; none holds a secret.
func ParseUsers(name string, data []byte) ([]User, error) {
	d := newDiagnostics(name, bytes.TrimPrefix(data, []byte("\ufeff")))
	switch {
	case len(data) > MaxFileBytes:
		return nil, Errors{{File: name, Line: 1, Column: 1, Msg: fmt.Sprintf("the file is larger than %d bytes", MaxFileBytes)}}
	case len(bytes.TrimSpace(d.src)) == 0:
		d.add(0, "the file is empty; begin with version = %s, then add a [[user]] for each user", credentialsVersion)
	case d.readable():
		root := parseTree(d)
		r := reader{d: d, base: filepath.Dir(name), root: scope{d: d, t: root}}
		users := r.users()
		if len(d.list) == 0 {
			return users, nil
		}
	}
	return nil, d.err()
}

func (r *reader) users() (out []User) {
	r.root.only("version", "user")
	n := r.root.t.keys["version"]
	if n == nil && !r.root.excused("version") {
		r.d.add(0, "the file says no version; begin with version = %s", credentialsVersion)
	}
	if n != nil && (n.kind != kindInteger || n.text != credentialsVersion) {
		r.d.add(n.pos, "version: this Isthmus knows %s alone; write version = %s, or use a newer Isthmus", credentialsVersion, credentialsVersion)
		return nil // what else is in the file means something else there
	}
	users := r.root.list("user")
	if len(users) == 0 && len(r.d.list) == 0 {
		r.d.add(len(r.d.src), "no [[user]]; add one for each user")
	}
	names, subjects := make(map[string]int), make(map[string]int)
	for _, s := range users {
		if r.d.full() {
			break
		}
		out = append(out, r.user(s, names, subjects))
	}
	return out
}

func (r *reader) user(s scope, names, subjects map[string]int) User {
	s.only("name", "password", "certificate", "at")
	u := User{Line: r.d.line(s.t.pos), At: make(map[string]SASL)}
	if v := s.str("name", `"anna"`, true); v.ok && r.shows("name", v) {
		r.unique("the user", v, names)
		u.Name = v.text
	}
	u.Password = s.secret("password", r.base, false)
	if v := s.str("certificate", `"CN=anna"`, false); v.ok && r.shows("certificate", v) {
		if v.text == "" {
			r.d.add(v.pos, `certificate is empty; write the subject, for example certificate = "CN=anna", or leave it out`)
		}
		r.unique("the certificate", v, subjects)
		u.Certificate = v.text
	}
	if s.t.keys["password"] == nil && s.t.keys["certificate"] == nil && !s.excused("password") && !s.excused("certificate") {
		r.d.add(s.t.pos, `%s has neither password nor certificate, so nothing proves it; add password = "env:NAME" or "file:PATH", or certificate = "CN=anna"`, s.title)
	}
	const example = `{ eu = { mechanism = "SCRAM-SHA-512", username = "anna", password = "env:NAME" } }`
	at, ok := s.sub("at", example)
	if !ok {
		if s.t.keys["at"] == nil {
			s.missing("at", example)
		}
		return u
	}
	if len(at.t.order) == 0 {
		r.d.add(s.t.keys["at"].pos, "at is empty, so the user gets in nowhere; write at = %s", example)
	}
	for _, cluster := range at.t.order {
		key := "at." + cluster
		if !identity.MatchString(cluster) {
			r.d.add(at.t.keys[cluster].key, "at: %s is no cluster's name; use letters, digits, dash, and begin with a letter or digit", clip(cluster))
			key = "at"
		}
		if own, ok := at.sub(cluster, example); ok {
			own.title = key
			u.At[cluster] = r.own(own)
		}
	}
	return u
}

// own reads a user's own login at one cluster.
func (r *reader) own(s scope) (out SASL) {
	s.only("mechanism", "username", "password")
	if v := s.str("mechanism", strconv.Quote(ScramSHA512), true); v.ok {
		if out.Mechanism = v.text; !slices.Contains(ownMechanisms, v.text) {
			r.d.add(v.pos, "unknown mechanism %s; write one of %s", clip(v.text), strings.Join(ownMechanisms, ", "))
		}
	}
	if v := s.str("username", `"anna"`, true); v.ok && r.shows("username", v) {
		out.User = v.text
	}
	out.Password = s.secret("password", r.base, true)
	return out
}

// maxShownBytes bounds what names somebody.
const maxShownBytes = 256

// shows reports a text that cannot be shown to a person, or is too long for it.
func (r *reader) shows(key string, v value) bool {
	switch {
	case len(v.text) > maxShownBytes:
		r.d.add(v.pos, "%s is longer than %d bytes; shorten it", key, maxShownBytes)
	case strings.ContainsFunc(v.text, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.d.add(v.pos, "%s: %s holds characters that do not print; take them out", key, clip(v.text))
	default:
		return true
	}
	return false
}
