package node

import "github.com/isthmus-project/isthmus/router"

// doors are the routers that run here now.
func (n *Node) doors() []*router.Router {
	if n.routers == nil {
		return nil
	}
	return n.routers()
}
