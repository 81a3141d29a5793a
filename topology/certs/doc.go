// Package certs keeps the certificates of something that listens, and reads them again as they change.
package certs
