//go:build brokenmirror

package mirror

import "os"

// resumed is off by one record, if the environment asks for it.
func resumed(c Checkpoint) Checkpoint {
	if os.Getenv("ISTHMUS_BROKEN") == "sequence" {
		c.SourceNext++
	}
	return c
}

// filtered lets everything through, if the environment asks for it.
func filtered(v verdict) verdict {
	v.carried = v.carried || os.Getenv("ISTHMUS_BROKEN") == "loops"
	return v
}

// voided keeps what a log had in a life before, if the environment asks for it.
func voided(r Run, from int64) int64 {
	if os.Getenv("ISTHMUS_BROKEN") == "lives" {
		return r.sourceEnd()
	}
	return from
}
