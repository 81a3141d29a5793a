// Package house checks what the project asks of its own source and a compiler does not: which package may import which
// (layers.go), how large and how well documented things are (sizes.go), and how bubbles are run (bubbles.go). The rules are pure
// functions over a list of packages or a file tree, so that each is tried on a small bad example beside the real source.
package house
