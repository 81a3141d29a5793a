// Package router is the door in front of clusters, as real clients see it.
//
// A [Door] has a slot for each broker of a cluster, with other ids and other addresses than theirs, and its network reaches the slots only: a
// client that learns a real address and goes there fails, and so does the test.
package router
