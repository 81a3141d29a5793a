package topology

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxErrors bounds a report: a file with more faults is not a topology with mistakes but something else.
const maxErrors = 200

// Error is one fault of a topology file.
type Error struct {
	File string
	// Line and Column count from 1; a column is a character, not a byte.
	Line, Column int
	// Setting is the key of the live setting that is at fault; Line and Column are 0 then. Empty where the file is.
	Setting string
	// Msg says what is wrong and what to do about it. It never holds a secret.
	Msg string
}

// Error gives the fault as file:line:column: what; what to do. A setting stands in for the place.
func (e Error) Error() string {
	if e.Setting != "" {
		key := e.Setting
		if len(key) > maxKeyBytes || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
			key = clip(key)
		}
		return fmt.Sprintf("setting %s: %s", key, e.Msg)
	}
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// fault is one of a setting.
func fault(key, format string, args ...any) Error {
	return Error{Setting: key, Msg: fmt.Sprintf(format, args...)}
}

// asFault is an error as one of a setting.
func asFault(key string, err error) Error {
	var e Error
	if errors.As(err, &e) {
		return e
	}
	return fault(key, "%v", err)
}

// maxKeyBytes is what gossip allows a setting's key.
const maxKeyBytes = 512

// Errors are all faults of one file in the order of their places.
type Errors []Error

// Error gives one fault a line.
func (e Errors) Error() string {
	var b strings.Builder
	for i, err := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

// diagnostics collects the faults of one source text.
type diagnostics struct {
	file  string
	src   []byte
	lines []int // offset of each line's first byte
	list  Errors
	// settings are the keys of the live settings over the text. What a setting says is at the offset len(src) + 1 + its index.
	settings []string
	// patterns are the lists that were read: all links of a short form have the same, and many.
	patterns map[*node]Patterns
}

func newDiagnostics(file string, src []byte) *diagnostics {
	d := &diagnostics{file: file, src: src, lines: []int{0}, patterns: make(map[*node]Patterns)}
	for i, c := range src {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	return d
}

// line is the number, from 1, of the line that holds the offset.
func (d *diagnostics) line(offset int) int {
	i, exact := slices.BinarySearch(d.lines, offset)
	if exact {
		return i + 1
	}
	return i
}

// place names where an offset is, for a message about something else.
func (d *diagnostics) place(offset int) string {
	if key, ok := d.setting(offset); ok {
		return "setting " + key
	}
	return "line " + strconv.Itoa(d.line(offset))
}

// overlaid gives a setting an offset.
func (d *diagnostics) overlaid(key string) int {
	d.settings = append(d.settings, key)
	return len(d.src) + len(d.settings)
}

// setting is the key of the setting that an offset belongs to.
func (d *diagnostics) setting(offset int) (key string, ok bool) {
	if offset <= len(d.src) {
		return "", false
	}
	return d.settings[offset-len(d.src)-1], true
}

// full tells that no more faults are taken, so that whoever searches for them can stop.
func (d *diagnostics) full() bool { return len(d.list) >= maxErrors }

func (d *diagnostics) add(offset int, format string, args ...any) {
	if d.full() {
		return
	}
	msg := "too many errors; mend those above and check again"
	if len(d.list) < maxErrors-1 {
		msg = fmt.Sprintf(format, args...)
	} else {
		offset = len(d.src)
	}
	if key, ok := d.setting(offset); ok {
		d.append(Error{File: d.file, Setting: key, Msg: msg})
		return
	}
	line := d.line(offset)
	column := utf8.RuneCount(d.src[d.lines[line-1]:offset]) + 1
	d.append(Error{File: d.file, Line: line, Column: column, Msg: msg})
}

// append takes a fault that is not there yet: the links of a short form all have its faults.
func (d *diagnostics) append(e Error) {
	if !slices.Contains(d.list, e) {
		d.list = append(d.list, e)
	}
}

// err is nil without faults, else all of them, sorted and without repeats.
func (d *diagnostics) err() error {
	return d.list.err()
}

// err is nil without faults, else all of them, sorted and without repeats.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Setting, b.Setting), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(e)
}

// nearest is the candidate a misspelled word most likely meant, or none if all are too far off.
func nearest(word string, candidates []string) (best string, ok bool) {
	if len(word) > 64 {
		return "", false
	}
	limit := max(1, min(3, len(word)/3))
	if len(word) >= 4 {
		limit = max(limit, 2)
	}
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d <= limit {
			best, limit, ok = c, d-1, true
		}
	}
	return best, ok
}

// distance counts the insertions, deletions, replacements and swaps of neighbours between two short words.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
