package secure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/test/sync"
)

// claim is a link whose user lacks one right, or none.
type claim struct {
	right
	user, topic, link string
	all               bool // lacks none
}

// rights gives every row of the page's table its own user, who has all rights but that one, and one user all of them.
func (p *pair) rights(t *testing.T) {
	table := readRights(t, readPage(t))
	table, syncs := split(table)
	claims := []claim{{user: "least", topic: "right-least", link: "eu-least-us-least", all: true}}
	for _, r := range table {
		s := r.slug()
		claims = append(claims, claim{right: r, user: "no-" + s, topic: "right-" + s, link: "eu-" + s + "-us-" + s})
	}
	for _, r := range syncs { // one user for each side: what is said names the kind, and each kind needs one right there
		s := "sync-" + r.cluster
		claims = append(claims, claim{right: r, user: "no-" + s, topic: "right-" + s, link: "eu-" + s + "-us-" + s})
	}
	s := newStage(t, "rights")
	logs := make([]*judge.Log, len(claims)) // of their own, because most are never copied
	for i, c := range claims {
		if slices.ContainsFunc(claims[:i], func(before claim) bool { return before.user == c.user }) {
			continue
		}
		logs[i] = judge.NewLog()
		p.eu.account(t, c.user, "pw")
		p.us.account(t, c.user, "pw")
		given := slices.Clone(table)
		if c.all || slices.Contains(syncs, c.right) {
			given = append(given, syncs...)
		}
		p.grant(t, c.user, c.topic, slices.DeleteFunc(given, func(r right) bool {
			return !c.all && (r == c.right || slices.Contains(syncs, r) && r.cluster == c.cluster)
		}))
		if c.all {
			p.grant(t, c.user, c.topic, settingsAtSource)
		}
		p.eu.create(t, c.topic, 1)
		write(t, p.eu, logs[i], c.topic, 1, 100, 0)
		from, to, _ := strings.Cut(c.link, "-us-")
		s.cluster(from, p.eu, "SCRAM", s.tls(p), s.login(c.user, "SCRAM-SHA-512", c.user, "pw"))
		s.cluster("us-"+to, p.us, "SCRAM", s.tls(p), s.login(c.user, "SCRAM-SHA-512", c.user, "pw"))
		s.link(from, "us-"+to, c.topic)
		if c.all || slices.Contains(syncs, c.right) { // not the others: copied rules are rights, which their users are to lack
			s.settings("sync_configs = [\"*\"]\nsync_acls = true\nsync_quotas = true\n")
		}
	}
	n := s.node()
	n.Start()
	p.hasEnough(t, n, logs[0], claims[0])

	if len(p.us.denials(claims[len(claims)-1].user)) == 0 {
		t.Errorf("us refused nothing to a user without the right %s, or its log has another form than denials looks for", claims[len(claims)-1])
	}
	check := ""
	for _, c := range claims[1:] {
		t.Run("without "+c.String(), func(t *testing.T) {
			if c.where == "check" && check == "" {
				check = checkLive(t, s.file())
			}
			p.provoke(t, n, c)
			node.Until(t, 40*time.Second, c.where+" says "+c.seen, func(ctx context.Context) error { return c.isSeen(ctx, n, check) })
		})
	}
	saidOnce(t, n, claims)
}

// split takes the rights apart that only links need which keep more alike than the records.
func split(table []right) (always, syncs []right) {
	for _, r := range table {
		if r.kind() != "" {
			syncs = append(syncs, r)
		} else {
			always = append(always, r)
		}
	}
	return always, syncs
}

// kind is that of what needs the right, as a line of the log has it; empty for the records.
func (r right) kind() string {
	_, rest, _ := strings.Cut(r.seen, "kind=")
	kind, _, _ := strings.Cut(rest, " ")
	if kind != "" {
		kind = "kind=" + kind
	}
	return kind
}

// hasEnough wants the user with all rights to mirror, to follow a source that grows, and to go on after a restart, without asking
// for anything that is refused.
func (p *pair) hasEnough(t *testing.T, n *node.Node, log *judge.Log, c claim) {
	t.Helper()
	copied(t, time.Minute, n, p.eu, c.link, c.topic)
	p.eu.grow(t, c.topic, 2)
	write(t, p.eu, log, c.topic, 2, 100, 1)
	copied(t, time.Minute, n, p.eu, c.link, c.topic)
	n.Kill()
	n.Start()
	write(t, p.eu, log, c.topic, 2, 100, 2)
	copied(t, time.Minute, n, p.eu, c.link, c.topic)
	p.judged(t, log, c.topic)
	p.keptAlike(t, c)
	for _, s := range []*site{p.eu, p.us} {
		for _, line := range s.denials(c.user) {
			t.Errorf("%s refused something to a user with all rights of %s: %s", s.name, page, line)
		}
	}
}

// keptAlike wants what is set at the source on the target too.
func (p *pair) keptAlike(t *testing.T, c claim) {
	t.Helper()
	eu, us := p.eu.hand(t), p.us.hand(t)
	reader := "reader-of-" + c.topic // a quota of its own user the link leaves alone
	rule := sync.Reads(reader, c.topic)
	eu.Set(c.topic, "retention.ms", "777777777")
	eu.Allow(rule)
	eu.Quota(reader, map[string]float64{"consumer_byte_rate": 1e9})
	node.Until(t, 15*time.Second, "settings, rules and quotas of the source are on the target", func(context.Context) error {
		switch {
		case us.Own(c.topic)["retention.ms"] != "777777777":
			return fmt.Errorf("the settings are %v", us.Own(c.topic))
		case !slices.Contains(us.Rules(), rule):
			return errors.New("the rule is not there")
		case us.QuotaValues()["user "+reader+" consumer_byte_rate"] != 1e9:
			return fmt.Errorf("the quotas are %v", us.QuotaValues())
		}
		return nil
	})
}

// hand is a person at the site.
func (s *site) hand(t *testing.T) sync.Hand {
	t.Helper()
	c, err := broker.Open(broker.Profile{Name: s.name, Bootstrap: s.Bootstrap()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return sync.Hand{TB: t, Cluster: c}
}

// provoke does what needs the right, where the start of a link does not.
func (p *pair) provoke(t *testing.T, n *node.Node, c claim) {
	t.Helper()
	switch c.String() {
	case "target topic each Alter":
		copied(t, time.Minute, n, p.eu, c.link, c.topic)
		p.eu.grow(t, c.topic, 2)
	case "target topic each AlterConfigs":
		copied(t, time.Minute, n, p.eu, c.link, c.topic)
		p.eu.hand(t).Set(c.topic, "retention.ms", "777777777")
	case "target cluster AlterConfigs": // other links set quotas too, and one of them may be first
		eu, rate := p.eu.hand(t), 1e9
		node.Until(t, 40*time.Second, "the quota is this link's to set", func(ctx context.Context) error {
			rate++
			eu.Quota("reader-of-"+c.topic, map[string]float64{"producer_byte_rate": rate})
			return c.isSeen(ctx, n, "")
		})
	case "target topic each Read":
		copied(t, time.Minute, n, p.eu, c.link, c.topic)
		n.Kill()
		write(t, p.us, judge.NewLog(), c.topic, 1, 1, 0) // behind the checkpoint: is it one of the link's own?
		n.Start()
	}
}

// saidOnce wants a trouble that lasts to be told a few times at most: a log that is full of one line hides the others.
func saidOnce(t *testing.T, n *node.Node, claims []claim) {
	t.Helper()
	const most = 5 // the node is started a few times
	for _, c := range claims {
		said := 0
		for line := range strings.Lines(n.Log()) {
			if strings.Contains(line, "link="+c.link+" ") && strings.Contains(line, c.kind()) && strings.Contains(line, "_AUTHORIZATION_FAILED") {
				said++
			}
		}
		if said > most {
			t.Errorf("the log has %d lines about the missing right of link %s, want %d at most; its troubles come and go", said, c.link, most)
		}
	}
}

// isSeen is an error until the lack of the right shows where the page says.
func (c claim) isSeen(ctx context.Context, n *node.Node, check string) error {
	text := check
	switch c.where {
	case "status":
		out, err := n.CLI(ctx, "status", c.link)
		if err != nil {
			return err
		}
		text = string(out)
	case "log":
		text = n.Log()
	}
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, c.topic) && !strings.Contains(line, c.link) && !strings.Contains(line, strings.TrimPrefix(c.link, "eu-"+c.slug()+"-")) {
			continue
		}
		if c.shownIn(line) {
			return nil
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return errors.New("nothing at all is said")
	}
	return fmt.Errorf("it says:\n%s", strings.Join(lines, ""))
}
