package topology

import (
	"strings"
	"testing"
)

// residency has topics that stay in two data centers, and a link within them.
const residency = `[fabric]
name = "r"
[[cluster]]
name = "eu"
dc = "frankfurt"
bootstrap = ["eu:9092"]
[[cluster]]
name = "fr"
dc = "paris"
bootstrap = ["fr:9092"]
[[cluster]]
name = "us"
dc = "virginia"
bootstrap = ["us:9092"]
[[stay]]
topics = ["patients-*"]
dcs = ["frankfurt", "paris"]
[[link]]
from = "eu"
to = "fr"
topics = ["*"]
[[link]]
from = "eu"
to = "us"
topics = ["orders"]
`

const residencyRouter = `[[node]]
name = "eu-1"
[[router]]
name = "clinic"
node = "eu-1"
listen = "127.0.0.1:9092"
advertise = "127.0.0.1"
slots = "9093-9098"
home = "eu"
[[router.set]]
name = "files"
topics = ["patients-*"]
groups = ["patients-*"]
home = "eu"
slots = "9103-9108"
`

// TestStay_IsKeptByFilesAppliesAndHomes: whoever would take what has to stay elsewhere is refused, with the rule and the place.
func TestStay_IsKeptByFilesAppliesAndHomes(t *testing.T) {
	file := func(text string) Source { return Source{Name: "r.toml", Text: []byte(text)} }
	for _, tc := range []struct {
		name string
		do   func() error
		want []string // in the error
	}{
		{"a link in a file", func() error {
			_, err := Parse("r.toml", []byte(strings.Replace(residency, `topics = ["orders"]`, `topics = ["orders", "patients-x"]`, 1)))
			return err
		}, []string{"r.toml:24", "patients-*", "line 15", "virginia"}},
		{"an apply", func() error {
			wanted := strings.Replace(residency, `topics = ["orders"]`, `topics = ["*"]`, 1)
			_, err := file(residency).Apply(nil, "wanted.toml", []byte(wanted))
			return err
		}, []string{"wanted.toml:24", "patients-*", "line 15", "exclude"}},
		{"an apply of a file that forgot the rule is a plan that says so", func() error {
			wanted := strings.Replace(residency, "[[stay]]\ntopics = [\"patients-*\"]\ndcs = [\"frankfurt\", \"paris\"]\n", "", 1)
			p, err := file(residency).Apply(nil, "wanted.toml", []byte(wanted))
			if err == nil && !p.Destructive() {
				t.Error("a rule is taken away, and nobody is asked twice")
			}
			return err
		}, nil},
		{"a setting of a link", func() error {
			_, err := file(residency).Set(nil, []Setting{{Key: "link/eu-us/topics", Value: []byte(`["*"]`)}})
			return err
		}, []string{"link/eu-us/topics", "patients-*"}},
		{"a home in a file", func() error {
			_, err := Parse("r.toml", []byte(residency+strings.Replace(residencyRouter, "groups = [\"patients-*\"]\nhome = \"eu\"", "groups = [\"patients-*\"]\nhome = \"us\"", 1)))
			return err
		}, []string{"patients-*", "virginia", "home"}},
		{"a home that is set", func() error {
			alone, _, _ := strings.Cut(residencyRouter, "[[router.set]]") // of a router with the set only the rest moves
			_, err := file(residency+alone).Set(nil, []Setting{{Key: "router/clinic/home", Value: []byte(`"us"`)}})
			return err
		}, []string{"router/clinic/home", "patients-*"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.do()
			switch {
			case len(tc.want) == 0 && err != nil:
				t.Fatal(err)
			case len(tc.want) > 0 && err == nil:
				t.Fatal("not refused")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not tell %q:\n%v", want, err)
				}
			}
			if err != nil {
				t.Log(err)
			}
		})
	}
}

// TestMayBeHome: what a rule keeps must not move with its set, nor with what no set names where no set has it.
func TestMayBeHome(t *testing.T) {
	alone, _, _ := strings.Cut(residencyRouter, "[[router.set]]")
	for _, tc := range []struct {
		text, set, cluster string
		may                bool
	}{
		{residencyRouter, "files", "us", false},
		{residencyRouter, "files", "fr", true},
		{residencyRouter, "", "us", true}, // the set has what is kept
		{residencyRouter, "files", "mars", true},
		{alone, "", "us", false},
		{alone, "", "fr", true},
	} {
		top, err := Parse("r.toml", []byte(residency+tc.text))
		if err != nil {
			t.Fatal(err)
		}
		err = top.MayBeHome("clinic", tc.set, tc.cluster)
		if (err == nil) != tc.may || err != nil && !strings.Contains(err.Error(), `[[stay]] keeps "patients-*" in frankfurt, paris, and cluster "us" is in virginia`) {
			t.Errorf("set %q to %s: %v", tc.set, tc.cluster, err)
		}
		if err := top.MayBeHome("mars", tc.set, tc.cluster); err != nil {
			t.Errorf("of no router: %v", err)
		}
	}
}
