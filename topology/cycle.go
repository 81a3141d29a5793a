package topology

// Cycle gives the links over which a topic's records can come back from l's target to its source, fewest links first and
// ties by name, as Route finds them; nil if they cannot, or if l does not take the topic, which is the source's. A cycle of same-name links needs
// a loop filter, and that needs targets which keep producer ids.
func (t *Topology) Cycle(l Link, topic string) []Link {
	target, ok := t.TargetTopic(l, topic)
	if !ok {
		return nil
	}
	return t.Route(l.To, l.From, target)
}
