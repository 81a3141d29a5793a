// Package fleet runs whole fabrics as people do: several nodes in several data centers, each a process of its own, that gossip,
// share the partitions between real clusters, lose nodes, and are restarted under load. Sizes are set as package node says.
package fleet
