package frame

import "fmt"

// Kind is one word for what is wrong with a frame, for metrics.
type Kind string

// The kinds.
const (
	// Size is a length that no frame may have.
	Size Kind = "size"
	// Header is a header that cannot be one.
	Header Kind = "header"
	// TLS is a client that speaks TLS where there is none.
	TLS Kind = "tls"
	// HTTP is a browser or a probe.
	HTTP Kind = "http"
)

// Error says why bytes are no frame. Nothing behind them on their connection can be understood.
type Error struct {
	// Kind is one word for it.
	Kind Kind
	// Detail says what was found.
	Detail string
}

func (e *Error) Error() string { return "read frame: " + e.Detail }

func badf(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}
