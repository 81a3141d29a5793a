// Package rewrite makes what a broker says of its cluster into what clients of the virtual cluster are to hear, and back: ids and addresses of
// brokers, the cluster's id, epochs of leaders. It does so for all requests that are small enough to be decoded; for Produce and Fetch see
// package walk.
//
// Everything is a pure function over a [View], which does not change: another home is another View.
package rewrite
