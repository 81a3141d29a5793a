//go:build !brokenmirror

package mirror

// The functions here change nothing. With the build tag brokenmirror, which no build of the program has, others stand in their
// place and do what a mirror must never do: test/nemesis shows that they are caught.

// resumed is the place where a pump goes on that was found behind its checkpoint.
func resumed(c Checkpoint) Checkpoint { return c }

// filtered is the loop filter's verdict on a batch that a link of the fabric wrote.
func filtered(v verdict) verdict { return v }

// voided is the source offset from which on a run is void behind an incarnation.
func voided(_ Run, from int64) int64 { return from }
