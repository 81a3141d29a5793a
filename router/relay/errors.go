package relay

import (
	"errors"
	"fmt"
)

// Side says whose fault it is that a connection ended.
type Side string

// The sides.
const (
	Client   Side = "client"
	Upstream Side = "upstream"
	Router   Side = "router"
)

// Error is why a connection ended other than by the client's will.
type Error struct {
	// Side is where it went wrong.
	Side Side
	// Doing says at what, for people.
	Doing string
	// Err is what happened: of the network, a *frame.Error, or one of the errors of this package.
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("relay: %s: %s: %v", e.Side, e.Doing, e.Err) }

// Unwrap returns what happened.
func (e *Error) Unwrap() error { return e.Err }

// What else can be wrong, wrapped in an [Error].
var (
	// ErrUnsupported says that a client sent a request that it was not told of.
	ErrUnsupported = errors.New("the request is not offered")
	// ErrTooLong says that a request or an answer that has to be rewritten is over its limit.
	ErrTooLong = errors.New("too long to be rewritten")
	// ErrMalformed says that bytes are not what their header says.
	ErrMalformed = errors.New("malformed")
	// ErrElsewhere says that records of a topic of another set came to this home's slots: the client is to look for the topic's leaders again.
	ErrElsewhere = errors.New("the topic has another home")
	// ErrMoved says that the home has changed, and that the connection cannot go on at the new one: the client is to connect again.
	ErrMoved = errors.New("the home has changed")
	// ErrLease says that the answer to a write came when this instance had no lease any more: the home may be another one by now, and what the client wrote may not be there.
	ErrLease = errors.New("the lease for writes is over")
	// ErrUnreachable says that the broker could not be connected to.
	ErrUnreachable = errors.New("the broker cannot be reached")
	// ErrNoLogin says that a client asked for something before its login was done, where logins end at the door.
	ErrNoLogin = errors.New("a login comes first")
	// ErrLogin says that the door refused a login.
	ErrLogin = errors.New("the login is refused")
	// ErrHomeLogin says that a user of the door does not get in at the home: he has no login there, or the home refuses it.
	ErrHomeLogin = errors.New("the home does not let a user of the door in; the log at level debug says why")
	// ErrMemory says that all connections together hold as much as they may.
	ErrMemory = errors.New("no memory for it in time")
)

func failed(side Side, doing string, err error) error { return &Error{side, doing, err} }
