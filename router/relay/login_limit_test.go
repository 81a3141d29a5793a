package relay

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
)

// TestRelay_LongRequestsNeedALogin: where the home wants a login, who has sent none sends nothing long; afterwards the usual limit counts.
func TestRelay_LongRequestsNeedALogin(t *testing.T) {
	long := kmsg.NewPtrMetadataRequest()
	for range 3000 {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr("a topic with a name that is not short")
		long.Topics = append(long.Topics, topic)
	}
	login := kmsg.NewPtrSASLAuthenticateRequest()
	login.SASLAuthBytes = make([]byte, 60<<10)
	for name, tc := range map[string]struct {
		before int
		login  bool
		taken  bool
	}{
		"no login":                      {64 << 10, false, false},
		"after a login":                 {64 << 10, true, true},
		"the home wants no login":       {0, false, true},
		"the usual limit is the lesser": {1 << 30, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.Limits.BeforeLogin = tc.before })
			if tc.login {
				post(l.client, request(1, 1, login))
				b := <-l.broker
				asked(t, b, kmsg.SASLAuthenticate, 1)
				post(b, answer(1, 1, kmsg.NewPtrSASLAuthenticateResponse()))
				expect(t, l.client, 1)
				l.broker <- b
			}
			post(l.client, request(2, 1, long))
			if !tc.taken {
				l.gone(30 * time.Second)
				var wrong *frame.Error
				if err := <-l.ended; !errors.As(err, &wrong) || wrong.Kind != frame.Size {
					t.Errorf("%s: ended with %v", name, err)
				}
				return
			}
			b := <-l.broker
			asked(t, b, kmsg.Metadata, 2)
			_ = b.Close()
			_ = l.client.Close()
			<-l.ended
		})
	}
}
