package secure

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// page is where the table of rights and the examples are.
var page = filepath.Join("..", "..", "docs", "security.md")

// right is one row of the table of rights.
type right struct {
	cluster  string // source or target
	resource string // topic each, topic state, topic probe, topic settings, cluster
	name     string // as the page has it
	op       kmsg.ACLOperation
	where    string // status, log or check: where the lack of it is seen
	seen     string // as what; … stands for any text
}

// stateTopics are those that the page calls state.
var stateTopics = []string{"__isthmus.checkpoints", "__isthmus.map", "__isthmus.ledger", "__isthmus.settings"}

// settingsAtSource are what the page wants on a cluster that is only a source, so that settings are kept there too. Nothing but that
// needs them, so they are in no row.
var settingsAtSource = []right{
	{cluster: "source", resource: "topic settings", name: "Create", op: kmsg.ACLOperationCreate},
	{cluster: "source", resource: "topic settings", name: "Read", op: kmsg.ACLOperationRead},
	{cluster: "source", resource: "topic settings", name: "Write", op: kmsg.ACLOperationWrite},
}

// readPage returns the text of the page.
func readPage(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var rightRow = regexp.MustCompile("(?m)^\\| (source|target) \\| ([a-z ]+) \\| ([A-Za-z]+) \\| [^|]+ \\| (status|log|check): `([^`]+)` \\|$")

// readRights reads the table of the page. A row in another form is an error: it would not be proven.
func readRights(t testing.TB, text string) []right {
	t.Helper()
	var rights []right
	for _, m := range rightRow.FindAllStringSubmatch(text, -1) {
		op, err := kmsg.ParseACLOperation(m[3])
		if err != nil {
			t.Fatalf("%s: right %q: %v", page, m[3], err)
		}
		rights = append(rights, right{m[1], m[2], m[3], op, m[4], m[5]})
	}
	rows := strings.Count(text, "\n| source |") + strings.Count(text, "\n| target |")
	if len(rights) == 0 || len(rights) != rows {
		t.Fatalf("%s: %d of %d rows of the table of rights are understood", page, len(rights), rows)
	}
	return rights
}

func (r right) String() string { return r.cluster + " " + r.resource + " " + r.name }

// slug is the row as a part of names.
func (r right) slug() string { return strings.ToLower(strings.ReplaceAll(r.String(), " ", "-")) }

// shownIn reports whether a text holds what the row says.
func (r right) shownIn(text string) bool {
	parts := strings.Split(r.seen, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(strings.TrimSpace(parts[i]))
	}
	return regexp.MustCompile(strings.Join(parts, ".*")).MatchString(text)
}

// acl is the row as Kafka takes it, for a user and a topic that is mirrored.
func (r right) acl(t testing.TB, user, topic string) *kadm.ACLBuilder {
	t.Helper()
	b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").Operations(r.op).ResourcePatternType(kadm.ACLPatternLiteral)
	switch r.resource {
	case "topic each":
		return b.Topics(topic)
	case "topic state":
		return b.Topics(stateTopics...)
	case "topic probe":
		return b.Topics("__isthmus.probe")
	case "topic settings":
		return b.Topics("__isthmus.settings")
	case "cluster":
		return b.Clusters()
	}
	t.Fatalf("%s: resource %q of the table of rights is not known", page, r.resource)
	return nil
}

// grant gives a user the rights of a table at both clusters.
func (p *pair) grant(t testing.TB, user, topic string, rights []right) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, r := range rights {
		at := p.us
		if r.cluster == "source" {
			at = p.eu
		}
		results, err := at.admin.CreateACLs(ctx, r.acl(t, user, topic))
		if err == nil {
			for _, one := range results {
				if one.Err != nil {
					err = fmt.Errorf("%w (%s)", one.Err, one.ErrMessage)
				}
			}
		}
		if err != nil {
			t.Fatalf("give %s to %s: %v", r, user, err)
		}
	}
}

// denials are the lines of a broker's log in which it refused something to a user.
func (s *site) denials(user string) (lines []string) {
	for line := range strings.Lines(s.Log(0)) {
		if strings.Contains(line, "Principal = User:"+user+" is Denied") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
