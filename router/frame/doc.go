// Package frame reads what stands in front of Kafka requests and answers: their length, and their header. It copies nothing and allocates
// nothing; a body is none of its business.
//
//	request                                      answer
//	 4 size      of what follows                  4 size
//	 2 key       which request                    4 correlation id
//	 2 version                                      tags, only in a flexible version
//	 4 correlation id                               body
//	 2 client id length, -1 for null, its bytes
//	   tags      only in a flexible version: count, then number, size, bytes each
//	   body
//
// The header of an answer to ApiVersions never has tags (KIP-511).
package frame
