// Package states drives every way in which a log can go wrong, and asks what became of it: the state and the word for it, what the ledger
// and the metrics say, how the partition comes back, and that its neighbours did not notice. The table is on kfake in a bubble; what
// kfake cannot do (replicas, unclean elections, retention by time) is on a real cluster of three brokers.
package states
