package mirror

// groupNames are what one end of a link calls the topics that groups have positions in. Within the keeping of groups a topic has the source's name.
type groupNames struct {
	link   *Link
	target bool // the end is the link's target
}

// known is the source's name of a topic of this end; false: it is none of the link's, or one of several.
func (n groupNames) known(topic string) (source string, ok bool) {
	terms := n.link.terms()
	if !n.target || terms.Naming.Keeps() {
		return topic, true
	}
	if source, ok = terms.SourceTopic(topic); !ok {
		return "", false
	}
	return source, n.link.routing().pumpID(n.link.spec, source, 0).Target() == topic
}

// called is what this end calls a topic of the source.
func (n groupNames) called(source string) string {
	if !n.target {
		return source
	}
	return n.link.routing().pumpID(n.link.spec, source, 0).Target()
}
