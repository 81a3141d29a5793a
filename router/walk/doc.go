// Package walk goes over the bodies of Produce and Fetch, requests and answers, while they pass in pieces, and writes fields over in place.
// A frame of any size goes through a buffer of any size from [MinBuffer] on; record bytes are neither copied nor looked at, and no length
// changes.
//
// What a body looks like is a program (program.go): one operation per field, made for each version. A [Walker] runs it over the bytes as they
// come and stops where a field that it must see whole is not there yet. So all work and all memory is bounded by the bytes that
// arrived, whatever counts and lengths they claim.
package walk
