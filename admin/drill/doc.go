// Package drill practises what a fabric is bought for: it takes the clients of a router to another cluster while a canary writes and reads through the router's door, and
// tells by what the canary saw how long clients could not write, what was lost, and whether it was good enough. It is a client of the fabric and of its doors, and runs outside
// of the nodes: what it measures is what clients saw.
//
//	checks ─▶ canary writes ─▶ switch ─▶ verify ─┬▶ (back: switch, verify) ─▶ verdict, report, note
//	  └ refused                   └ aborted      └ rolled back: switch back ─▶ verdict
package drill
