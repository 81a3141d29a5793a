package secure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// rotation changes every secret of two links, on disk and at the brokers, while records flow: a SCRAM password, the clients'
// certificate and its authority, the brokers' certificate and its authority. Brokers are restarted, so that no connection
// of before is left that would hide a secret that was not read again.
func (p *pair) rotation(t *testing.T) {
	s := newStage(t, "rotation")
	for _, at := range []*site{p.eu, p.us} {
		at.account(t, turner, "first")
		// Each end has files of its own: an operator changes one cluster after the other.
		s.cluster(at.name+"-scram", at, "SCRAM", s.tls(p), s.login(at.name, "SCRAM-SHA-512", turner, "first"))
		s.cluster(at.name+"-mtls", at, "MTLS", s.tls(p, s.shows(at.name, p.people.issue(t, turner, false))))
	}
	topics := map[string]string{"eu-scram-us-scram": "rotated-password", "eu-mtls-us-mtls": "rotated-certificate"}
	s.link("eu-scram", "us-scram", topics["eu-scram-us-scram"])
	s.link("eu-mtls", "us-mtls", topics["eu-mtls-us-mtls"])
	f := p.flood(t, "rotated-password", "rotated-certificate")
	n := s.node()
	n.Start()
	f.follow(t, n, "the start", topics)
	p.loginsEnd(t, f)
	if log := n.Log(); strings.Contains(log, "cluster trouble") {
		t.Errorf("a login that ended by its time was not renewed in time:\n%s", log)
	}

	// The broker first: until the file follows, the next login is refused.
	p.eu.account(t, turner, "second")
	p.loginsEnd(t, f)
	s.login("eu", "SCRAM-SHA-512", turner, "second")
	// The file first: until the broker follows, the next login is refused.
	s.login("us", "SCRAM-SHA-512", turner, "second")
	p.loginsEnd(t, f)
	p.us.account(t, turner, "second")
	f.follow(t, n, "new passwords", topics)

	// Both authorities are trusted on both sides, then the certificates change, then the old authorities go.
	brokers, people := newAuthority(t, "new brokers"), newAuthority(t, "new people")
	s.put("ca.pem", append(append([]byte{}, p.ca.pem...), brokers.pem...))
	for _, at := range []*site{p.eu, p.us} {
		at.files.put("people.pem", append(append([]byte{}, p.people.pem...), people.pem...))
	}
	p.restart(t)
	f.follow(t, n, "brokers that trust both authorities", topics)
	for _, at := range []*site{p.eu, p.us} {
		s.shows(at.name, people.issue(t, turner, false))
		at.files.put("broker.pem", brokers.issue(t, "broker", false).store())
		at.files.put("people.pem", people.pem)
	}
	p.restart(t)
	s.put("ca.pem", brokers.pem)
	p.ca, p.people = brokers, people
	f.follow(t, n, "certificates of the new authorities", topics)
	f.stop(t)
	for link, topic := range topics {
		copied(t, time.Minute, n, p.eu, link, topic)
	}
	p.judged(t, f.log, "rotated-password", "rotated-certificate")
}

// flood is a load that does not end by itself.
type flood struct {
	log  *judge.Log
	site *site
	end  context.CancelFunc
	all  sync.WaitGroup
}

// floodRate is the records a second to each topic.
const floodRate = 500

// flood makes topics at eu and writes to them until stop.
func (p *pair) flood(t *testing.T, topics ...string) *flood {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &flood{log: judge.NewLog(), site: p.eu, end: cancel}
	t.Cleanup(func() { cancel(); f.all.Wait() })
	for _, topic := range topics {
		p.eu.create(t, topic, 4)
		f.all.Go(func() {
			load := judge.Load{Topic: topic, Partitions: 4, Rate: floodRate, Size: 120, Compression: "lz4", Headers: true}
			if err := judge.Write(ctx, p.eu.client(), load, f.log); err != nil {
				t.Errorf("write to %s: %v", topic, err)
			}
		})
	}
	return f
}

func (f *flood) stop(t *testing.T) {
	t.Helper()
	f.end()
	f.all.Wait()
}

// flows waits until so many more records are acknowledged.
func (f *flood) flows(t *testing.T, records int) {
	t.Helper()
	goal := f.log.Acked(f.site.name) + records
	node.Until(t, time.Minute, fmt.Sprintf("%d more records are acknowledged", records), func(context.Context) error {
		if acked := f.log.Acked(f.site.name); acked < goal {
			return fmt.Errorf("%d of %d", acked, goal)
		}
		return nil
	})
}

// follow waits until what is at the source now is copied, while more comes.
func (f *flood) follow(t *testing.T, n *node.Node, after string, topics map[string]string) {
	t.Helper()
	f.flows(t, floodRate/2)
	began := time.Now()
	for link, topic := range topics {
		copied(t, time.Minute, n, f.site, link, topic)
	}
	t.Logf("after %s: %d records are acknowledged, copied within %v", after, f.log.Acked(f.site.name), time.Since(began).Round(time.Millisecond))
}

// loginsEnd waits, by the records that come meanwhile, until every login by SCRAM of before has ended.
func (p *pair) loginsEnd(t *testing.T, f *flood) {
	t.Helper()
	f.flows(t, int(reauthenticate.Seconds()+1)*2*floodRate)
}

// restart restarts both clusters at once.
func (p *pair) restart(t *testing.T) {
	t.Helper()
	var both sync.WaitGroup
	for _, at := range []*site{p.eu, p.us} {
		both.Go(func() {
			at.Stop(0)
			at.Start(0)
		})
	}
	both.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := errors.Join(p.eu.WaitReady(ctx), p.us.WaitReady(ctx)); err != nil {
		t.Fatal(err)
	}
}
