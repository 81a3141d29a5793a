package embedded

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkProduce compares kfake behind the guard with kfake alone.
func BenchmarkProduce(b *testing.B) {
	run := func(b *testing.B, addr string) {
		cl := client(b, addr, kgo.DefaultProduceTopic("orders"), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
		value := make([]byte, 200)
		b.SetBytes(int64(len(value)))
		b.ReportAllocs()
		for b.Loop() {
			cl.Produce(context.Background(), &kgo.Record{Value: value}, nil)
		}
		if err := cl.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("guarded", func(b *testing.B) {
		c, err := New(Config{Name: "eu", Dir: b.TempDir(), Listen: "127.0.0.1:0", Topics: []Topic{{"orders", 4}}}, discard())
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Run(context.Background()) }()
		run(b, c.Addr())
		c.Close()
		<-done
	})
	b.Run("alone", func(b *testing.B) {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "orders"), kfake.DataDir(b.TempDir()))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		run(b, c.ListenAddrs()[0])
	})
}
