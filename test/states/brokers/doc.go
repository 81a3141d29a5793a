// Package brokers drives what kfake cannot do with a log between real clusters, one of three brokers and one of one: unclean elections on
// either side, retention by time and by hand, topics that are made anew. Each asks for the state, the ledger and the recovery, and has the
// checker judge the target.
package brokers
