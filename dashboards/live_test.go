package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// exempt are metrics that no dashboard has to show.
var exempt = map[string]string{
	"isthmus_mirror_orphan_records_total":     "each is in the ledger, which is shown",
	"isthmus_mirror_left_out_records_total":   "each is in the ledger, which is shown",
	"isthmus_mirror_tail_records_total":       "the ledger has the sum of each tail",
	"isthmus_build_info":                      "tells the version; for joins, not for a picture of lag",
	"isthmus_mirror_batches_total":            "the decisions count batches too, and say what became of them",
	"isthmus_mirror_map_runs":                 "size of the offset map: for who tunes it, not for who is woken",
	"isthmus_mirror_audited_records_total":    "how much was compared; what it found is audit_mismatch_total",
	"isthmus_mirror_audited_bytes_total":      "how much was compared; what it found is audit_mismatch_total",
	"isthmus_mirror_throttled_seconds_total":  "a limit that somebody set; what it costs is the lag, which is shown",
	"isthmus_mirror_folded_partitions":        "a property of the node's size; the table of partitions says _other",
	"isthmus_mirror_retention_headroom_bytes": "a warning beside the lag, for alerts; only while something waits",

	"isthmus_drill_last_passed_timestamp_seconds": "for the alert of stale drills",
	"isthmus_drill_last_timestamp_seconds":        "for alerts; isthmus drill history tells all of a drill",
	"isthmus_drill_passed":                        "for alerts; isthmus drill history tells all of a drill",
	"isthmus_drill_rto_seconds":                   "of one moment; isthmus drill history tells all of a drill",
	"isthmus_drill_rpo_records":                   "of one moment; isthmus drill history tells all of a drill",
}

// fleeting are the metrics that are exported only while something is wrong, or behind a drill, as they are then.
const fleeting = `
# TYPE isthmus_drill_last_timestamp_seconds gauge
isthmus_drill_last_timestamp_seconds{router="shop",set="",mode="failover"} 1
# TYPE isthmus_drill_passed gauge
isthmus_drill_passed{router="shop",set="",mode="failover"} 1
# TYPE isthmus_drill_rto_seconds gauge
isthmus_drill_rto_seconds{router="shop",set="",mode="failover"} 1
# TYPE isthmus_drill_rpo_records gauge
isthmus_drill_rpo_records{router="shop",set="",mode="failover"} 1
# TYPE isthmus_mirror_partition_cause gauge
isthmus_mirror_partition_cause{link="a-b",topic="t",partition="0",cause="manual"} 1
# TYPE isthmus_mirror_retention_headroom_seconds gauge
isthmus_mirror_retention_headroom_seconds{link="a-b",topic="t"} 1
# TYPE isthmus_mirror_retention_headroom_bytes gauge
isthmus_mirror_retention_headroom_bytes{link="a-b",topic="t"} 1
`

// emptyIsFine are expressions that answer with nothing when all is well. What is before their comparison must not be empty.
var emptyIsFine = map[string]string{
	"Partitions not running/A": "lists only those that do not run",
}

// comparison is at the end of an expression that filters.
var comparison = regexp.MustCompile(` (?:==|!=|>|<|>=|<=) \d+$`)

// links are those of the demo: three clusters, each mirrored into each other.
const links = 6

// topics are those of the demo.
const topics = 4

// scraped are the processes of the demo that have metrics: two nodes in each data center, and the one with the clusters.
const scraped = 7

// TestLive runs the demo and asks it, and a Prometheus that scrapes it, everything that the dashboards ask.
func TestLive(t *testing.T) {
	boards := load(t)
	dir := t.TempDir()
	demo := start(t, dir, binary(t), "demo", "--for", "10m", "--json", "--rate", "400",
		"--dir", filepath.Join(dir, "demo"), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--door", "127.0.0.1:0")
	demo.said(t, 30*time.Second, regexp.MustCompile(`(?m)^(producing) `))
	targets := demo.all(t, regexp.MustCompile(`http://(\S+)/metrics`))
	if len(targets) != scraped {
		t.Fatalf("the demo tells %d addresses of metrics (%s), want %d", len(targets), targets, scraped)
	}
	var pages [][]byte
	until(t, 30*time.Second, demo, "every link has copied records, and one keeps groups", func(ctx context.Context) error {
		pages = nil
		for _, at := range targets {
			page, err := get(ctx, "http://"+at+"/metrics")
			if err != nil {
				return err
			}
			pages = append(pages, page)
		}
		return copied(bytes.Join(pages, nil))
	})

	if !bytes.Contains(bytes.Join(pages, nil), []byte("\nisthmus_router_ready{")) { // test/router holds them against a door of its own
		boards = slices.DeleteFunc(boards, func(b Board) bool { return b.UID == "isthmus-router" })
	}

	t.Run("names", func(t *testing.T) {
		for _, f := range LintMetrics(boards, ParseExported(append(bytes.Join(pages, nil), fleeting...)), exempt) {
			t.Error(f)
		}
		for _, page := range pages {
			problems, err := promlint.New(bytes.NewReader(page)).Lint()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	})
	t.Run("promtool", func(t *testing.T) {
		tool := require(t, "promtool")
		for i, page := range pages {
			check := exec.CommandContext(t.Context(), tool, "check", "metrics")
			check.Stdin = bytes.NewReader(page)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("promtool check metrics of %s: %v\n%s", targets[i], err, out)
			}
		}
		if out, err := exec.CommandContext(t.Context(), tool, "check", "config", sampleConfig).CombinedOutput(); err != nil {
			t.Errorf("promtool check config: %v\n%s", err, out)
		}
	})
	t.Run("prometheus", func(t *testing.T) {
		askPrometheus(t, startPrometheus(t, targets...), boards)
	})
}

// copied is an error until every link has copied records and whoever keeps groups has looked at them.
func copied(text []byte) error {
	have := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^isthmus_mirror_records_total\{link="([^"]+)".*\} [1-9]`).FindAllSubmatch(text, -1) {
		have[string(m[1])] = true
	}
	if len(have) < links {
		return fmt.Errorf("%d of %d links have copied records", len(have), links)
	}
	for _, name := range []string{"isthmus_mirror_group_positions_set_total{", "isthmus_mirror_group_pending_seconds{"} {
		if !bytes.Contains(text, []byte("\n"+name)) {
			return fmt.Errorf("no node exports %s}", name)
		}
	}
	return nil
}

// require returns the path of a tool of Debian's package prometheus. Without it the test is skipped, or fails if
// ISTHMUS_REQUIRE_PROMETHEUS=1.
func require(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err == nil {
		return path
	}
	if os.Getenv("ISTHMUS_REQUIRE_PROMETHEUS") == "1" {
		t.Fatalf("%s is required (ISTHMUS_REQUIRE_PROMETHEUS=1): %v", tool, err)
	}
	t.Skipf("dashboards are not tried on a live Prometheus: %v; on Debian: apt install prometheus", err)
	return ""
}

// sampleConfig is the configuration we ship; the test runs it with another address and a shorter interval.
var sampleConfig = filepath.Join("prometheus", "prometheus.yml")

// prom is a running Prometheus.
type prom struct {
	*process
	url string
}

// shippedTargets are the targets of the configuration we ship.
var shippedTargets = regexp.MustCompile(`targets: \[[^]]*\]`)

// startPrometheus runs a Prometheus that scrapes the nodes every second.
func startPrometheus(t *testing.T, nodes ...string) *prom {
	t.Helper()
	program := require(t, "prometheus")
	dir := t.TempDir()
	shipped, err := os.ReadFile(sampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	config := string(shipped)
	targets := shippedTargets.FindString(config)
	if n := strings.Count(targets, "127.0.0.1:"); n != scraped {
		t.Fatalf("%s has %d targets, want %d as the demo has", sampleConfig, n, scraped)
	}
	for old, now := range map[string]string{"scrape_interval: 5s": "scrape_interval: 1s", targets: fmt.Sprintf(`targets: ["%s"]`, strings.Join(nodes, `", "`))} {
		if !strings.Contains(config, old) {
			t.Fatalf("%s has no %q", sampleConfig, old)
		}
		config = strings.ReplaceAll(config, old, now)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	address := p.said(t, 20*time.Second, regexp.MustCompile(`msg="Listening on" address=(127\.0\.0\.1:[1-9]\d*)`))
	return &prom{process: p, url: "http://" + address}
}

// value is a sample as Prometheus writes it: a time, and a number in a string.
type value [2]any

func (v value) number() float64 {
	text, _ := v[1].(string)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// series is one time series of an answer, at one time or over a range.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  value             `json:"value"`
	Values []value           `json:"values"`
}

// numbers are the samples of the series, without NaN.
func (s series) numbers() []float64 {
	var out []float64
	for _, v := range append(s.Values, s.Value) {
		if n := v.number(); !math.IsNaN(n) {
			out = append(out, n)
		}
	}
	return out
}

// ask sends a query to query or query_range.
func (p *prom) ask(ctx context.Context, verb, expr string) ([]series, error) {
	now := time.Now()
	form := url.Values{"query": {expr}, "time": {stamp(now)}}
	if verb == "query_range" {
		form = url.Values{"query": {expr}, "start": {stamp(now.Add(-30 * time.Second))}, "end": {stamp(now)}, "step": {"1"}}
	}
	body, err := get(ctx, p.url+"/api/v1/"+verb+"?"+form.Encode())
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string   `json:"resultType"`
			Result     []series `json:"result"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", verb, err)
	}
	if answer.Status != "success" {
		return nil, errors.New(answer.Error)
	}
	return answer.Data.Result, nil
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// full is an error when an answer has no series, or one without a number.
func full(answer []series) error {
	if len(answer) == 0 {
		return errors.New("is empty")
	}
	for _, s := range answer {
		if len(s.numbers()) > 0 {
			return nil
		}
	}
	return errors.New("is NaN only")
}

// choices are what a reader of the dashboards may have chosen.
var choices = []map[string]string{
	{"link": ".*", "topic": ".*", "router": ".*"},
	{"link": "eu-us", "topic": "orders", "router": ".+"},
	{"link": "(eu-us|ap-eu)", "topic": "(orders|payments)", "router": "(|.+)"},
}

// askPrometheus runs every expression of every dashboard, as at a point in time and over a range.
func askPrometheus(t *testing.T, p *prom, boards []Board) {
	until(t, 30*time.Second, p.process, "every link has a rate and a latency", func(ctx context.Context) error {
		for _, counter := range []string{"records_total", "replication_latency_seconds_count"} {
			moving, err := p.ask(ctx, "query", "sum by (link) (rate(isthmus_mirror_"+counter+"[15s])) > 0")
			if err != nil || len(moving) < links {
				return fmt.Errorf("%d of %d links have a rate of %s: %v", len(moving), links, counter, err)
			}
		}
		// The series of a topic begin when a node takes its first partition; all are there twice.
		known, err := p.ask(ctx, "query", "sum by (link, topic) (increase(isthmus_mirror_lost_records_total[15s]))")
		if err != nil || len(known) < links*topics {
			return fmt.Errorf("%d of %d topics on links are known: %v", len(known), links*topics, err)
		}
		// Prometheus begins with each target at another time; a rate needs two looks.
		looked, err := p.ask(ctx, "query", "count_over_time(up[1m]) >= 3")
		if err != nil || len(looked) < scraped {
			return fmt.Errorf("%d of %d processes were asked three times: %v", len(looked), scraped, err)
		}
		return nil
	})
	asked, allowed := 0, map[string]bool{}
	for _, b := range boards {
		for _, e := range b.Expressions() {
			for _, choice := range choices {
				values := map[string]string{"__rate_interval": "15s", "__range": "30s", "DS_PROMETHEUS": "none"}
				for k, v := range choice {
					values[k] = v
				}
				expr, err := Substitute(e.Expr, values)
				if err != nil {
					t.Fatal(err)
				}
				for _, verb := range []string{"query", "query_range"} {
					asked++
					answer, err := p.ask(t.Context(), verb, expr)
					if err != nil {
						t.Errorf("%s: %s of %s: %v", e.Where, verb, expr, err)
						continue
					}
					if _, ok := emptyIsFine[e.Where]; ok {
						allowed[e.Where] = true
						answer, err = p.ask(t.Context(), verb, comparison.ReplaceAllString(expr, ""))
					}
					if err := errors.Join(err, full(answer)); err != nil {
						t.Errorf("%s: %s of %s: %v", e.Where, verb, expr, err)
					}
				}
			}
		}
	}
	for where := range emptyIsFine {
		if !allowed[where] {
			t.Errorf("%s may be empty, but there is no such panel", where)
		}
	}
	t.Logf("asked Prometheus %d times", asked)
}
