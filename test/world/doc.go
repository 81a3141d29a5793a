// Package world runs whole nodes, wired as the program wires them, in one testing/synctest bubble: their gossip over a network
// that can be cut, their links over kfake clusters, their probes, settings and API. ISTHMUS_SEEDS, as for package gossip, asks for
// the long form.
package world
