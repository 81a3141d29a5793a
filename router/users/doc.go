// Package users knows who may come in at a door that checks logins itself: a file, read again as it changes, and the server's side of
// PLAIN (RFC 4616) and SCRAM (RFC 5802, 7677).
//
// Each user has logins of his own at the clusters behind the door. There is no login that several share, and none for those who have none. Nobody can tell a user that is not known from
// a wrong password: both take the same steps, with a salt and keys that are made of the name.
package users
