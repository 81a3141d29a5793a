// Package reach tries on real Kafka what a node measures of a cluster, with a network between them whose directions are cut apart while
// connections stay up, and what it keeps there.
package reach
