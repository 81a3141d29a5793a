package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/topology"
)

// web is the HTTP side of a node.
type web struct {
	guard   *guard
	node    Node
	metrics prometheus.Gatherer
	audit   *audit
}

// handler serves metrics, health and profiles. Probes are open: who asks them has no login. Metrics name all topics.
func (w *web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", w.only(right{role: topology.Viewer, all: true}, promhttp.HandlerFor(w.metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             writeTimeout / 2,
	})))
	mux.Handle("GET /livez", probe(func() error { return w.node.Health().Live }))
	mux.Handle("GET /startupz", probe(func() error { return w.node.Health().Started }))
	mux.Handle("GET /readyz", probe(func() error { return w.node.Health().Ready }))
	profiles := right{role: topology.Administrator, all: true}
	mux.Handle("GET /debug/pprof/", w.only(profiles, http.HandlerFunc(pprof.Index)))
	mux.Handle("GET /debug/pprof/cmdline", w.only(profiles, http.HandlerFunc(pprof.Cmdline)))
	mux.Handle("GET /debug/pprof/profile", w.only(profiles, http.HandlerFunc(pprof.Profile)))
	mux.Handle("GET /debug/pprof/symbol", w.only(profiles, http.HandlerFunc(pprof.Symbol)))
	mux.Handle("GET /debug/pprof/trace", w.only(profiles, http.HandlerFunc(pprof.Trace)))
	return mux
}

// only lets those through who have the right.
func (w *web) only(r right, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		verb, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "?")
		who, err := w.guard.who(req.Context(), req.Header.Values("Authorization"), req.TLS, remote(req.RemoteAddr))
		if err == nil {
			err = who.may(verb, r)
		}
		if err == nil && who.unknown && r.role == topology.Administrator && !here(req) {
			err = fmt.Errorf("%w: profiles are for the role admin, and without an admin.identity nobody is known: ask on this machine, as 127.0.0.1", ErrDenied)
		}
		if err == nil {
			next.ServeHTTP(rw, req)
			return
		}
		w.audit.refused(req.Context(), deed{who: who, from: hostOf(remote(req.RemoteAddr)), verb: verb}, err)
		code := http.StatusForbidden
		if errors.Is(err, ErrLogin) {
			code = http.StatusUnauthorized
			rw.Header().Set("WWW-Authenticate", `Bearer realm="isthmus"`)
		} else if status.Code(withCode(err)) != codes.PermissionDenied {
			code = http.StatusServiceUnavailable
		}
		rw.Header().Set("Cache-Control", "no-store")
		http.Error(rw, valid(err.Error()), code)
	})
}

// here reports whether somebody on this machine asks, and not a page of their browser under another name.
func here(req *http.Request) bool {
	host, _, err := net.SplitHostPort(req.Host)
	if err != nil {
		host = req.Host
	}
	from := net.ParseIP(hostOf(remote(req.RemoteAddr)))
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return from != nil && from.IsLoopback() && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// remote is the other end of a request.
type remote string

// Network implements [net.Addr].
func (remote) Network() string { return "tcp" }

// String implements [net.Addr].
func (r remote) String() string { return string(r) }

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
