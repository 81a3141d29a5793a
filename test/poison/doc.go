// Package poison tries what a mirror does with records that cannot be copied: each kind by each policy, what comes of it when the node is
// killed, and that the neighbours do not notice. A forger stands between the link and its clusters: it damages what the source serves,
// and answers for the target where kfake takes what Kafka refuses. What needs a real broker is tried on one.
package poison
