// Package gossip is what the nodes of a fabric tell each other: who is there, what is set, who owns what.
package gossip
