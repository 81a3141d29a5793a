// Package quota bounds what clients of a router take: bytes written, bytes read, requests. It says how long a client that took more has
// to wait, and leaves it to others that it does. Nothing here waits or looks at a clock.
//
// Each client that a rule names has an [Account] of its own, with a bucket for each bound: it fills with the rate, holds what a second gives,
// and may be overdrawn by what was taken already, since nobody knows how much that is before it is there. Who overdrew it waits until it
// is paid back. So the rate is held over time, whatever the sizes are, and nobody waits for less than that.
package quota
