package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// DeleteTopic deletes a topic with all that is in it. One that is not there is no error.
func (c *Cluster) DeleteTopic(ctx context.Context, name string) error {
	what := "delete topic " + name
	resp, err := c.admin.DeleteTopics(ctx, name)
	if err != nil {
		return c.failed(ctx, what, err)
	}
	r, ok := resp[name]
	if !ok {
		return c.failed(ctx, what, protocolErrorf("no answer for the topic"))
	}
	if errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	return c.refused(what, c.profile.denied(r.Err, "DELETE", "topic "+name), r.ErrMessage)
}
