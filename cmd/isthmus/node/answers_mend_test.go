package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/broker"
)

// TestOfCluster_SaysWhoseFaultItIs: what a cluster refuses or does not answer is no fault of the node.
func TestOfCluster_SaysWhoseFaultItIs(t *testing.T) {
	for _, tc := range []struct{ err, want error }{
		{kerr.TopicAuthorizationFailed, admin.ErrDenied},
		{kerr.ClusterAuthorizationFailed, admin.ErrDenied},
		{kerr.NotLeaderForPartition, admin.ErrNotReady},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, admin.ErrNotReady},
		{&broker.AccessError{Cluster: "us", Field: "tls.ca", Err: errors.New("unknown authority")}, admin.ErrNotReady},
		{context.DeadlineExceeded, nil},
		{errors.New("a fault of ours"), nil},
	} {
		wrapped := fmt.Errorf("anchor: %w", tc.err)
		got := ofCluster(wrapped)
		for _, class := range []error{admin.ErrDenied, admin.ErrNotReady} {
			if errors.Is(got, class) != (class == tc.want) {
				t.Errorf("%v became %v, want %v in it", tc.err, got, tc.want)
			}
		}
		if !errors.Is(got, tc.err) {
			t.Errorf("%v is lost in %v", tc.err, got)
		}
	}
}
