// Package verify looks at what a verification and the audit say of real brokers: of what they keep of every kind of batch, and of logs
// whose files were changed while nobody looked.
package verify
