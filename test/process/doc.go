// Package process runs the programs that tests need beside them: brokers, and Isthmus itself.
package process
