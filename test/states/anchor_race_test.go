package states

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
)

// An anchor fails in the middle: what is durable counts, and at once. The pump neither goes on by a decision that nobody wrote, nor in the
// epoch before one that somebody did, to be moved back by it much later.
func TestAnchor_FailsInTheMiddle(t *testing.T) {
	for name, tc := range map[string]struct {
		keys    []kmsg.Key
		decided bool
	}{
		"written, not read back": {[]kmsg.Key{kmsg.ListOffsets}, true},
		"not written":            {[]kmsg.Key{kmsg.Produce}, false},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, "", func(s *stage) {
				s.write(topic, words("a", 6)...)
				s.holds(topic, words("a", 6)...)
				us := s.Clusters["us"]
				ledger := us.TopicInfo("__isthmus.ledger").TopicID
				var fault *kfake.FaultHandle
				us.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
					us.KeepControl()
					for _, t := range req.(*kmsg.ProduceRequest).Topics {
						if (t.Topic == "__isthmus.ledger" || t.TopicID == ledger) && fault == nil { // the decision comes next
							fault = us.Fault(kfake.Fault{Keys: tc.keys, Topic: "__isthmus.checkpoints", Err: kerr.TopicAuthorizationFailed, Count: -1})
						}
					}
					return nil, nil, false
				})
				_, err := s.node.Set.Anchor(context.Background(), mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: 2, Why: "for a test"})
				if err == nil || fault == nil {
					t.Fatalf("anchored (%v), want an error", err)
				}
				s.write(topic, words("b", 4)...)
				time.Sleep(20 * time.Second)
				fault.Remove()
				all := append(words("a", 6), words("b", 4)...)
				if tc.decided {
					all = append(words("a", 6), "a-2", "a-3", "a-4", "a-5", "b-0", "b-1", "b-2", "b-3")
				}
				s.holds(topic, all...)
				s.again("n2")
				s.write(topic, "c")
				s.holds(topic, append(all, "c")...)
				s.ledger("repeated 2-5 4")
			})
		})
	}
}
