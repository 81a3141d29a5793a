// Package fabric runs several kfake clusters and the links between them in one
// testing/synctest bubble: twenty virtual seconds take a fraction of a real one,
// and a seed replays what happened. Faults are set per node and cluster: cuts,
// delays and slow links, each direction apart. ISTHMUS_SEEDS, as for package
// gossip, asks for the long form and so many seeds.
package fabric
