package admin

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// handler serves metrics and health.
func handler(metrics prometheus.Gatherer, node Node) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             writeTimeout / 2,
	}))
	mux.Handle("GET /livez", probe(func() error { return node.Health().Live }))
	mux.Handle("GET /startupz", probe(func() error { return node.Health().Started }))
	mux.Handle("GET /readyz", probe(func() error { return node.Health().Ready }))
	return mux
}

// probe answers 200 if ask has no error, else 503 with it.
func probe(ask func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := ask(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err) // a client that went away needs no answer
			return
		}
		fmt.Fprintln(w, "ok")
	})
}
