package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/cmd/isthmus/demo"
	"github.com/isthmus-project/isthmus/cmd/isthmus/node"
)

// demoStage is what a demo plays on: clusters in this process, and nodes in processes of their own.
type demoStage struct {
	*demoRun
	dir     string
	metrics string // host:port of the clusters' metrics
	hosts   *node.Hosts
	nodes   *demo.Nodes
	ended   chan error // of what runs in this process; one
	log     *slog.Logger
}

// stage starts clusters and nodes, which run until ctx ends and the nodes are stopped, and waits until every node answers.
func (d *demoRun) stage(ctx context.Context, dir string, log *slog.Logger) (_ *demoStage, err error) {
	s := &demoStage{demoRun: d, dir: dir, log: log, ended: make(chan error, 1)}
	var places []demo.Place
	if places, s.metrics, err = demo.Places(d.at); err != nil {
		return nil, usage(err)
	}
	file := filepath.Join(dir, "demo.toml")
	if err := writeOwn(file, demo.File(nil, nil)); err != nil {
		return nil, err
	}
	if s.hosts, err = node.NewHosts(demo.Clusters(dir), nodeBuild(), log); err != nil {
		return nil, err
	}
	if err := writeOwn(file, demo.File(s.hosts.Addresses(), places)); err != nil {
		s.hosts.Close()
		return nil, err
	}
	listen, err := net.Listen("tcp", s.metrics)
	if err != nil {
		s.hosts.Close()
		return nil, fmt.Errorf("serve metrics of the clusters: %w", err)
	}
	program, err := os.Executable()
	if err == nil {
		s.nodes, err = demo.Start(places, dir, program, "run", "-c", file, "--log-level", d.log.level)
	}
	if err != nil {
		_ = listen.Close()
		s.hosts.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		s.ended <- s.serve(ctx, listen)
	}()
	if err := s.up(ctx); err != nil {
		s.nodes.Stop(stopWithin)
		stop()
		return nil, errors.Join(err, <-s.ended)
	}
	s.introduce()
	return s, nil
}

// serve runs the clusters and their metrics.
func (s *demoStage) serve(ctx context.Context, listen net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.hosts.Metrics())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.hosts.Run(ctx) })
	g.Go(func() error {
		if err := server.Serve(listen); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics of the clusters: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return g.Wait()
}

// up waits until every node answers. One that has ended before never will: it would have been the machine's fault.
func (s *demoStage) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.nodes.All {
		g.Go(func() error { return answered(ctx, p) })
	}
	return g.Wait()
}

func answered(ctx context.Context, p *demo.Process) error {
	c, err := admin.Dial(p.GRPC)
	if err != nil {
		return err
	}
	defer c.Close()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err = c.LocalStatus(ctx, "", false); err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return p.Trouble()
		case <-ctx.Done():
			return fmt.Errorf("wait for node %s: %w", p.Name, err)
		case <-ticker.C:
		}
	}
}

// introduce tells where everything is, and what to try.
func (s *demoStage) introduce() {
	var b strings.Builder
	fmt.Fprintf(&b, "data, topology and logs in %s\n", s.dir)
	for _, p := range s.nodes.All {
		fmt.Fprintf(&b, "node %s  pid %d  --addr %s  http://%s/metrics\n", p.Name, p.PID, p.GRPC, p.HTTP)
	}
	fmt.Fprintf(&b, "the clusters themselves  http://%s/metrics\n%s", s.metrics, s.hints())
	s.say("%s", b.String())
}

// hints tell a person what to try in another terminal.
func (s *demoStage) hints() string {
	living := s.nodes.Living()
	if len(living) == 0 {
		return "no node is left: nothing is mirrored any more\n"
	}
	var addresses []string
	for _, p := range living {
		addresses = append(addresses, p.GRPC)
	}
	victim := living[len(living)-1]
	var b strings.Builder
	fmt.Fprintf(&b, "try, in another terminal:\n  export ISTHMUS_ADDR=%s\n", strings.Join(addresses, ","))
	program := "isthmus"
	if at, err := os.Executable(); err == nil {
		program = at
	}
	for _, line := range []struct{ what, why string }{
		{"%s nodes", "who is there; owners tells who copies what"},
		{"%s pause eu-us orders:0 --why 'to see it'", "one partition stops; resume lets it go on"},
		{"%s set log.level debug", "on all nodes, without a restart; history tells of it, undo 1 takes it back"},
	} {
		fmt.Fprintf(&b, "  "+line.what+"   # %s\n", program, line.why)
	}
	if hints := doorHints(living); hints != "" {
		b.WriteString(hints)
		fmt.Fprintf(&b, "  %s switchover shop --to us --yes   # clients of the door go on at another cluster; failback shop --yes takes them back\n", program)
		fmt.Fprintf(&b, "  %s drill rehearse shop --to us   # what that would take, with a shadow topic; ready tells what it would cost\n", program)
	}
	fmt.Fprintf(&b, "  %s watch & kill -9 %d   # %s dies, the others take over\n", program, victim.PID, victim.Name)
	return b.String()
}

// doorHints are lines for Kafka's own clients, which read through the doors of nodes that live.
func doorHints(living []*demo.Process) string {
	var doors []string
	for _, p := range living {
		if p.Door != "" {
			doors = append(doors, p.Door)
		}
	}
	if len(doors) == 0 {
		return ""
	}
	at := strings.Join(doors, ",")
	return fmt.Sprintf("  kcat -b %s -C -t orders -c 5   # through a door to eu, which either of its nodes keeps open\n"+
		"  kafka-console-consumer.sh --bootstrap-server %s --topic orders --max-messages 5\n", at, at)
}

// judged produces, waits for the mirrors and judges.
func (s *demoStage) judged(ctx context.Context) (demoResult, error) {
	clusters, err := s.hosts.Open()
	if err != nil {
		return demoResult{}, err
	}
	defer func() {
		for _, c := range clusters {
			c.Close()
		}
	}()
	play := demo.New(clusters, s.load, s.log)
	prepare, cancel := context.WithTimeout(ctx, prepareAtMost)
	defer cancel()
	if err := play.Prepare(prepare); err != nil {
		return demoResult{}, err
	}
	begun := time.Now()
	if err := s.produce(ctx, play); err != nil {
		return demoResult{}, err
	}
	result := demoResult{Seconds: time.Since(begun).Round(time.Millisecond).Seconds()}

	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), judgeAtMost)
	defer cancel()
	s.say("the producers have stopped after %s; waiting for the mirrors\n", time.Since(begun).Round(time.Second))
	if err := s.takeBack(after); err != nil {
		s.say("what was set cannot be taken back: %v\n", err)
	}
	if err := play.Settle(after); err != nil {
		return result, err
	}
	s.say("reading every cluster back\n")
	if result.Verdict, err = play.Judge(after); err != nil {
		return result, err
	}
	for _, p := range s.nodes.All {
		if p.Ended() != "" {
			result.Dead = append(result.Dead, p.Name)
		}
	}
	if !result.OK {
		s.explain(after)
	}
	result.Ledger, err = s.ledger(after)
	return result, err
}

// produce lets the producers write for their time, with a live table on a terminal.
func (s *demoStage) produce(ctx context.Context, play *demo.Demo) error {
	until := "until interrupted"
	if s.timeFor > 0 {
		until = "for " + s.timeFor.String()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeFor)
		defer cancel()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.say("producing at three clusters, same topics everywhere, %s\n", until)
	done := make(chan error, 1)
	go func() {
		done <- play.Produce(ctx)
		stop()
	}()
	if s.live() {
		s.watch(ctx, play, until)
	}
	select {
	case err := <-done:
		return err
	case err := <-s.ended:
		s.ended <- err // for who ends all
		stop()
		return errors.Join(err, <-done)
	}
}

// anyNode asks the first living node that answers; nil if none does.
func (s *demoStage) anyNode() *asking {
	a := &asking{t: s.t}
	for _, p := range s.nodes.Living() {
		a.addresses = append(a.addresses, p.GRPC)
	}
	return a
}

// takeBack takes back what somebody set: what is paused or left out on purpose is not lost.
func (s *demoStage) takeBack(ctx context.Context) error {
	if len(s.nodes.Living()) == 0 {
		return nil
	}
	return s.anyNode().ask(ctx, func(ctx context.Context, c *admin.Client) error {
		set, err := c.Settings(ctx, "")
		if err != nil {
			return err
		}
		for _, one := range set.GetSettings() {
			s.say("%s is taken back, so that it can be judged\n", one.GetKey())
			req := &adminpb.UnsetRequest{Key: one.GetKey(), Reason: "the demo ends", DryRun: true}
			plan, err := c.Unset(ctx, req)
			if err != nil {
				return err
			}
			req.DryRun, req.Confirm = false, plan.GetConfirm()
			if _, err := c.Unset(ctx, req); err != nil {
				return err
			}
		}
		return nil
	})
}

// explain tells where every partition stands, for who wonders what a verdict that is not ok is about.
func (s *demoStage) explain(ctx context.Context) {
	st, _ := s.look(ctx)
	if st == nil {
		s.say("no node tells where the partitions stand\n")
		return
	}
	s.say("%s", statusView{link: "every link"}.table(st, nil))
}

// ledger counts the entries of all ledgers. Without a node there is nobody to ask.
func (s *demoStage) ledger(ctx context.Context) (entries int, err error) {
	if len(s.nodes.Living()) == 0 {
		return 0, nil
	}
	err = s.anyNode().ask(ctx, func(ctx context.Context, c *admin.Client) error {
		return c.Ledger(ctx, "", func(e *adminpb.LedgerEntry) error {
			if len(e.GetUnanswered()) == 0 {
				entries++
			}
			return nil
		})
	})
	return entries, err
}
