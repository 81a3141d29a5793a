package arrival

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

// There is how many partitions each topic has at a cluster, for [Request.There]. A topic that cannot be described is an error: it may be there.
func There(ctx context.Context, at *broker.Cluster) (map[string]int, error) {
	m, err := at.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	there := make(map[string]int, len(m.Topics))
	for name, t := range m.Topics {
		if t.Err != nil && !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("topic %s of %s: %w", name, at.Name(), t.Err)
		}
		there[name] = len(t.Partitions)
	}
	return there, nil
}
