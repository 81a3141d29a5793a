// Package churn has a node live through many flaps of a link and many links that come and go, and looks at what that leaves behind:
// goroutines, file descriptors, memory, metric series. The node is a process of its own; the clusters are kfake in the test.
package churn
