package dashboards

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"
)

// Metric is a metric family as a node exports it.
type Metric struct {
	Type   string // counter, gauge, histogram, summary
	Labels map[string]bool
}

// Exported are metric families by name. The series of a histogram are there under the family's name, not under _bucket.
type Exported map[string]*Metric

var (
	typeLine = regexp.MustCompile(`^# TYPE (\S+) (\S+)$`)
	sample   = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
	pair     = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)
)

// ParseExported reads the text that a node answers to GET /metrics.
func ParseExported(text []byte) Exported {
	out := Exported{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if m := typeLine.FindStringSubmatch(lines.Text()); m != nil {
			out[m[1]] = &Metric{Type: m[2], Labels: map[string]bool{}}
			continue
		}
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if family := out.family(m[1]); family != nil {
			for _, p := range pair.FindAllStringSubmatch(m[2], -1) {
				family.Labels[p[1]] = true
			}
		}
	}
	return out
}

// family is the family that a series of this name belongs to, or nil.
func (e Exported) family(series string) *Metric {
	if m := e[series]; m != nil {
		return m
	}
	if m := e[base(series)]; m != nil && (m.Type == "histogram" || m.Type == "summary") {
		return m
	}
	return nil
}

// base is the family of a series of a histogram.
func base(series string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if cut, ok := strings.CutSuffix(series, suffix); ok {
			return cut
		}
	}
	return series
}
