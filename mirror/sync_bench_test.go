package mirror

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// BenchmarkSync is what looking at the settings of one topic takes when nothing differs: both answers are decoded and compared. It is
// where topicCost comes from.
func BenchmarkSync(b *testing.B) {
	const topics, settings = 100, 35
	resp := kmsg.NewPtrDescribeConfigsResponse()
	resp.Version = 4
	for i := range topics {
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ResourceName = fmt.Sprint("topic-", i)
		for n := range settings {
			c := kmsg.NewDescribeConfigsResponseResourceConfig()
			c.Name, c.Value, c.Source = fmt.Sprintf("some.setting.number.%d", n), kmsg.StringPtr("9223372036854775807"), kmsg.ConfigSourceDefaultConfig
			if n < 3 {
				c.Source = kmsg.ConfigSourceDynamicTopicConfig
			}
			r.Configs = append(r.Configs, c)
		}
		resp.Resources = append(resp.Resources, r)
	}
	raw := resp.AppendTo(nil)
	all, err := topology.ParsePattern("*")
	if err != nil {
		b.Fatal(err)
	}
	keeps := topology.Keeps{Configs: topology.Patterns{all}}
	notes := make(map[string]noted)
	for n := range 3 {
		notes[fmt.Sprintf("some.setting.number.%d", n)] = noted{"9223372036854775807", true}
	}
	read := func() []map[string]broker.Config {
		var got kmsg.DescribeConfigsResponse
		got.Version = 4
		if err := got.ReadFrom(raw); err != nil {
			b.Fatal(err)
		}
		out := make([]map[string]broker.Config, 0, topics)
		for _, r := range got.Resources {
			configs := make(map[string]broker.Config, len(r.Configs))
			for _, c := range r.Configs {
				configs[c.Name] = broker.Config{Value: *c.Value, Dynamic: c.Source == kmsg.ConfigSourceDynamicTopicConfig}
			}
			out = append(out, configs)
		}
		return out
	}
	b.ReportAllocs()
	for b.Loop() {
		source, target := read(), read()
		for i := range source {
			s := compareConfigs("t", keeps, kept{}, source[i], target[i])
			if differs := s.kept.mergeAll(s.source, s.target, notes, func(string) bool { return false }); len(differs) > 0 {
				b.Fatal(differs)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/topics, "µs/topic")
}
