package lock

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/node"
)

// startNode runs the binary, as a process of its own that can be frozen, with the stage's link as a node that does not know the others.
func (s *stage) startNode(name string) *node.Node {
	s.t.Helper()
	grpc := net.JoinHostPort("127.0.0.1", strconv.Itoa(node.FreePort(s.t)))
	text := s.file(stageOptions{links: []string{"eu>us"}}) +
		fmt.Sprintf("[[node]]\nname = %q\nhttp = \"127.0.0.1:%d\"\ngrpc = %q\n", name, node.FreePort(s.t), grpc)
	file := filepath.Join(s.t.TempDir(), "isthmus.toml")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		s.t.Fatal(err)
	}
	n := node.New(s.t, name, file, grpc)
	n.Start()
	return n
}

// partitions is what a node says of the stage's topic.
func (s *stage) partitions(ctx context.Context, n *node.Node) ([]*adminpb.Partition, error) {
	st, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			if f.GetTopic() == s.topic {
				return f.GetPartitions(), nil
			}
		}
	}
	return nil, fmt.Errorf("node %s has no flow of %s", n.Name, s.topic)
}
