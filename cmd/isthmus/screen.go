package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// screen shows one frame after the other: in place on a terminal, else each below the last.
type screen struct {
	out   io.Writer
	live  bool // a terminal
	begun bool
}

func newScreen(t terminal) *screen {
	return &screen{out: t.out, live: isTerminal(t.out) && t.env("TERM") != "dumb"}
}

// frame shows text that ends with a newline. What cannot be written is lost, as with every display.
func (s *screen) frame(text string) {
	if !s.live {
		fmt.Fprint(s.out, text)
		return
	}
	var b strings.Builder
	if !s.begun {
		b.WriteString("\x1b[2J") // clear once; after that lines are overwritten, so that nothing flickers
		s.begun = true
	}
	b.WriteString("\x1b[H")
	b.WriteString(strings.ReplaceAll(text, "\n", "\x1b[K\n")) // clear the rest of each line
	b.WriteString("\x1b[J")                                   // and what is below
	fmt.Fprint(s.out, b.String())
}

// isTerminal tells whether somebody looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
