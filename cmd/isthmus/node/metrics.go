package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry is the registry of one node, with what every Go program has.
func newRegistry(b Build) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_build_info", Help: "What this program was built from; always 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// hostMetrics tells of the embedded clusters of a node at each scrape.
type hostMetrics []*host

var (
	descDiskFree = prometheus.NewDesc("isthmus_embedded_disk_free_bytes",
		"Free space on the disk of an embedded cluster; writes are refused below its low-water mark.", []string{"cluster"}, nil)
	descPersistErrors = prometheus.NewDesc("isthmus_embedded_persist_errors_total",
		"Writes of an embedded cluster that its disk did not take.", []string{"cluster"}, nil)
	descEmbeddedUp = prometheus.NewDesc("isthmus_embedded_up",
		"Whether an embedded cluster is open; 0 while its directory or port is not to be had.", []string{"cluster"}, nil)
)

// Describe implements [prometheus.Collector].
func (hostMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- descDiskFree
	ch <- descPersistErrors
	ch <- descEmbeddedUp
}

// Collect implements [prometheus.Collector].
func (hosts hostMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, h := range hosts {
		c := h.current()
		if c == nil {
			ch <- prometheus.MustNewConstMetric(descEmbeddedUp, prometheus.GaugeValue, 0, h.spec.Name)
			continue
		}
		ch <- prometheus.MustNewConstMetric(descEmbeddedUp, prometheus.GaugeValue, 1, h.spec.Name)
		s := c.Stats()
		ch <- prometheus.MustNewConstMetric(descPersistErrors, prometheus.CounterValue, float64(s.PersistErrors), h.spec.Name)
		if s.DiskFreeBytes >= 0 {
			ch <- prometheus.MustNewConstMetric(descDiskFree, prometheus.GaugeValue, float64(s.DiskFreeBytes), h.spec.Name)
		}
	}
}
