package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCluster_RunsInABubble: on a virtual network nothing waits for real time.
func TestCluster_RunsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		c, err := New(Config{Name: "eu", InMemory: true, Listen: "127.0.0.1:9092", NewListener: network.Listen, Topics: []Topic{{"orders", 1}}}, discard())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Run(t.Context()) }()
		cl := client(t, c.Addr(), kgo.Dialer(network.DialContext), kgo.DefaultProduceTopic("orders"))
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("v")).FirstErr(); err != nil {
			t.Error(err)
		}
		cl.Close()
		if _, err := network.DialContext(t.Context(), "tcp", c.Addr()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * DefaultIdleTimeout)
		synctest.Wait()
		if n := c.Stats().Connections; n != 0 {
			t.Errorf("%d connections are idle and open", n)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
