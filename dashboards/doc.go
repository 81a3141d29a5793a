// Package dashboards keeps the Grafana dashboards of Isthmus and what they are tested with. A dashboard is a file: this package
// reads it, checks its shape, and checks its PromQL against the metrics that a node really exports. It knows as much PromQL as
// that needs (which metrics, under which function, with which labels); whether an expression means something is asked of a
// live Prometheus, in the tests.
package dashboards
