// Package limits tries what the world may do to a mirror that no fault of a
// network does: brokers that lie, and disks that are full. A liar is a proxy in
// front of a true broker that changes its answers, by a seed. Whatever it says,
// the link names the trouble, its memory stays bounded, it never waits for ever
// and never panics, the other links of the process do not notice, and once the
// broker tells the truth again every record is there once.
package limits
