// Package program runs the client programs of test/clients and gathers what all of them say into one history, in the order in which it was heard.
package program
