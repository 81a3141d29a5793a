package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/admin/drill"
	"github.com/isthmus-project/isthmus/router/generation"
)

var (
	descDrillPassed = prometheus.NewDesc("isthmus_drill_last_passed_timestamp_seconds",
		"When the last drill of a set ended that moved its clients and passed; 0: none ever did. Rehearsals do not count.", []string{"router", "set"}, nil)
	descDrillLast = prometheus.NewDesc("isthmus_drill_last_timestamp_seconds", "When the last drill of a set ended, by its mode.", []string{"router", "set", "mode"}, nil)
	descDrillOK   = prometheus.NewDesc("isthmus_drill_passed", "Whether the last drill of a set passed, by its mode.", []string{"router", "set", "mode"}, nil)
	descDrillRTO  = prometheus.NewDesc("isthmus_drill_rto_seconds", "For how long clients could not write in the last drill of a set, as its canary saw it, by its mode.", []string{"router", "set", "mode"}, nil)
	descDrillRPO  = prometheus.NewDesc("isthmus_drill_rpo_records", "Records of the canary that were acknowledged and lost in the last drill of a set, by its mode.", []string{"router", "set", "mode"}, nil)
)

// drillMetrics tells of the drills of the routers of a node, at each scrape, as far as its doors have read the control clusters.
type drillMetrics func() []notedDoor

// Describe implements [prometheus.Collector].
func (drillMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDrillPassed, descDrillLast, descDrillOK, descDrillRTO, descDrillRPO} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m drillMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, o := range m() {
		sets := []string{""}
		for _, s := range o.spec.Router.Sets {
			sets = append(sets, s.Name)
		}
		name := o.spec.Router.Name
		for _, one := range lastDrills(o.drills, sets) {
			ch <- prometheus.MustNewConstMetric(descDrillPassed, prometheus.GaugeValue, one.passed, name, one.set)
			for mode, d := range one.last {
				ok := 0.0
				if d.GetVerdict() == string(drill.Pass) {
					ok = 1
				}
				for desc, v := range map[*prometheus.Desc]float64{descDrillLast: seconds(d), descDrillOK: ok, descDrillRTO: d.GetRtoSeconds(), descDrillRPO: float64(d.GetRpoRecords())} {
					ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, name, one.set, mode)
				}
			}
		}
	}
}

func seconds(d *adminpb.Drill) float64 { return float64(d.GetEnded().AsTime().UnixMilli()) / 1000 }

// lastOf are the last drills of one set.
type lastOf struct {
	set    string
	passed float64                   // when the last ended that moved clients and passed; 0: none
	last   map[string]*adminpb.Drill // by mode
}

// lastDrills finds the last drills of each set. It is pure.
func lastDrills(drills []*adminpb.Drill, sets []string) (out []lastOf) {
	for _, set := range sets {
		one := lastOf{set: set, last: make(map[string]*adminpb.Drill)}
		for _, d := range drills {
			if d.GetSet() != set || d.GetVerdict() == string(drill.Refused) {
				continue
			}
			if before := one.last[d.GetMode()]; before == nil || seconds(d) >= seconds(before) {
				one.last[d.GetMode()] = d
			}
			if d.GetVerdict() == string(drill.Pass) && d.GetMode() != string(drill.Rehearse) {
				one.passed = max(one.passed, seconds(d))
			}
		}
		out = append(out, one)
	}
	return out
}

// notedDoor is a router of the node, and the drills of it that were noted.
type notedDoor struct {
	spec   doorSpec
	drills []*adminpb.Drill
}

// noted are the routers that serve, with their drills. One whose notes cannot be read is left out: its drills are not known.
func (d *doors) noted() (out []notedDoor) {
	for _, s := range d.stores() {
		if drills, err := drillsOf(s.store, s.spec.Router.Name); err == nil {
			out = append(out, notedDoor{s.spec, drills})
		}
	}
	return out
}

// storedDoor is a router of the node, and what it reads.
type storedDoor struct {
	spec  doorSpec
	store *generation.Store
}

// stores are those of the routers that serve.
func (d *doors) stores() (out []storedDoor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.by {
		o.mu.Lock()
		if o.store != nil {
			out = append(out, storedDoor{o.spec, o.store})
		}
		o.mu.Unlock()
	}
	return out
}
