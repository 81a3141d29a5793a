// Package node is one running isthmus: it joins the packages into a process, and is the only one that knows them all. The
// command line starts it, and tests start many of them in one bubble.
package node
