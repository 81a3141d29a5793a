// Package groups has tests of consumer groups whose positions are kept alike on two real clusters.
package groups
