package topology

import (
	"strings"
	"testing"
)

const policyFile = `
[fabric]
name = "shop"
[[cluster]]
name = "eu"
bootstrap = ["127.0.0.1:9092"]
[[cluster]]
name = "us"
bootstrap = ["127.0.0.1:9093"]
[[link]]
from = "eu"
to = "us"
topics = ["*"]
`

func TestPolicy_WithoutAWordIsTheCarefulOne(t *testing.T) {
	top, err := Parse("t.toml", []byte(policyFile))
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{FreezeTruncated, HaltRecreated, KeepDeleted, DefaultDeletedAfter, KeepDeleted, HaltPoison, DefaultHeadroom, DefaultStuckAfter}
	if got := top.Links[0].Policy; got != want {
		t.Errorf("policy is %+v, want %+v", got, want)
	}
	if k := top.Links[0].Keeps; len(k.Configs) > 0 || k.ACLs || k.Quotas {
		t.Errorf("keeps %+v, want nothing", k)
	}
}

// What a setting writes is what runs, and what is exported reads the same again.
func TestPolicy_IsSetLive(t *testing.T) {
	source := Source{Name: "t.toml", Text: []byte(policyFile)}
	for field, value := range map[string]string{
		"truncated_source": `"keep"`, "recreated": `"new-incarnation"`, "deleted": `"follow"`, "deleted_after": `"36h0m0s"`, "groups_deleted": `"follow"`, "poison": `"skip"`,
		"headroom": `"10m0s"`, "stuck_after": `"30s"`, "sync_configs": `["*"]`, "sync_configs_exclude": `["a"]`, "sync_acls": "true",
		"sync_quotas": "true", "flow_byte_rate": `{ "logs-*" = 5000 }`, "cold_byte_rate": "7000",
	} {
		plan, err := source.Set(nil, []Setting{{Key: "link/eu-us/" + field, Value: []byte(value)}})
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		line := field + " = " + value
		if export := plan.Next.Export(); !strings.Contains(export, line) {
			t.Errorf("the export has no line %q:\n%s", line, export)
		} else if again, err := Parse("again", []byte(export)); err != nil || again.Export() != export {
			t.Errorf("%s: what was exported reads otherwise: %v", field, err)
		}
		if len(plan.Changes) != 1 || plan.Changes[0].Field != field {
			t.Errorf("%s changes %v, want that field", field, plan.Changes)
		}
		if loses := field == "deleted" || field == "groups_deleted" || field == "poison"; plan.Destructive() != loses {
			t.Errorf("%s = %s is destructive: %t, want %t", field, value, plan.Destructive(), loses)
		}
	}
}

func TestRates_LeastOfAllThatMatch(t *testing.T) {
	top, err := Parse("t.toml", []byte(policyFile+`flow_byte_rate = { "logs-*" = 5000, "logs-app" = 9000, "*-app" = 3000 }`))
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]int64{"logs-db": 5000, "logs-app": 3000, "web-app": 3000, "orders": 0} {
		if got := top.Links[0].Rates.Flow(topic); got != want {
			t.Errorf("topic %s may have %d bytes/s, want %d", topic, got, want)
		}
	}
}
