// Package relay carries one client connection to one broker and back.
package relay
