package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConfigChange sets one setting of a topic, or takes it back so that the broker's default is in effect again.
type ConfigChange struct {
	Name   string
	Value  string // not for Remove
	Remove bool
}

// TopicChanges are the changes of one topic; the cluster makes all of them or none.
type TopicChanges struct {
	Topic   string
	Changes []ConfigChange
}

// altersAtOnce is how many topics, rights or quotas one request changes: what a controller writes as one batch is bounded.
const altersAtOnce = 200

// AlterTopicConfigs changes settings of topics. refused has those that the cluster did not change, by topic and in its words; err is
// that of a request, after which what was not asked for yet is in neither. With dry nothing is changed and the answer is what it
// would be, as far as the cluster checks.
func (c *Cluster) AlterTopicConfigs(ctx context.Context, dry bool, topics []TopicChanges) (refused map[string]error, err error) {
	refused = make(map[string]error)
	for some := range slices.Chunk(topics, altersAtOnce) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.ValidateOnly = dry
		for _, t := range some {
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, t.Topic
			for _, change := range t.Changes {
				rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				rc.Name, rc.Value = change.Name, kmsg.StringPtr(change.Value)
				if change.Remove {
					rc.Op, rc.Value = kmsg.IncrementalAlterConfigOpDelete, nil
				}
				r.Configs = append(r.Configs, rc)
			}
			req.Resources = append(req.Resources, r)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return refused, c.failed(ctx, "alter topic configurations", c.unsupported(ctx, req.Key(), err))
		}
		for _, t := range some {
			at := slices.IndexFunc(resp.Resources, func(r kmsg.IncrementalAlterConfigsResponseResource) bool { return r.ResourceName == t.Topic })
			what := "alter the configuration of topic " + t.Topic
			if at < 0 {
				refused[t.Topic] = c.failed(ctx, what, protocolErrorf("no answer for the topic"))
				continue
			}
			r := resp.Resources[at]
			if err := codeError(r.ErrorCode); err != nil {
				refused[t.Topic] = c.refused(what, c.profile.denied(err, "ALTER_CONFIGS", "topic "+t.Topic), orEmpty(r.ErrorMessage))
			}
		}
	}
	return refused, nil
}

// unsupported is [ErrUnsupported] for the error of a request that the brokers do not know, and err for any other.
func (c *Cluster) unsupported(ctx context.Context, key int16, err error) error {
	if answered(err) || ctx.Err() != nil {
		return err
	}
	if known, asked := c.supports(ctx, key); asked == nil && !known {
		return ErrUnsupported
	}
	return err
}
