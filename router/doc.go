// Package router is a door for clients: a virtual cluster whose brokers are slots, each at an address that never changes, in front of a real
// cluster, the home.
//
//	clients ─▶ bootstrap ─┐                     ┌─▶ any broker of the home
//	clients ─▶ slot 0 ────┼─ relay, one each ───┼─▶ the broker that slot 0 stands for
//	clients ─▶ slot 1 ────┘        ▲            └─▶ the broker that slot 1 stands for
//	                               │ picture: view, versions, brokers
//	                      follow, once a second ──▶ home: brokers, versions, identity
//
// [New] binds the listeners and starts nothing; [Router.Run] serves until its context ends. What clients are told is a picture that is never changed,
// only replaced. Before there is one, while the home was not reached yet, connections are reset, as by a broker that is not there.
//
// # What a caller may rely on
//
// The cluster's id, the brokers' ids and which slot is whose are the same at all instances of a router, before and after restarts (package
// identity). Any instance serves any slot; which one clients are sent to follows from who is live (spread.go). A broker that joins the home gets the
// next free slot; one that has left keeps his. What clients are told of versions never grows while this process runs, and shrinks only
// when a broker joins that speaks less.
//
// # Homes that change
//
// With Deps.Generations the home of each set is the one that was decided last (package generation), and the router begins only when it knows which. It holds at a round that is open, goes to what is
// decided, and goes on where a round decides to stay; nobody has to tell it, but [Router.Look] makes it faster. [Router.Standings] says how far it is.
package router
