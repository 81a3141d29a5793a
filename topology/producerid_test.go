package topology

import (
	"math"
	"testing"
)

// TestIDs_AreForEver holds the ids to values computed apart from this code: ids are in logs and must never change.
func TestIDs_AreForEver(t *testing.T) {
	top, err := Load("testdata/mesh.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		got  int64
		want int64
	}{
		{"mirror eu from eu", top.MirrorID("eu", "eu"), 0x40be0b1a7e31a7e3},
		{"mirror eu from us", top.MirrorID("eu", "us"), 0x40be0b1a7e3e61f2},
		{"router client", top.RouterClientID("r1", 1, 1), 0x65f058d000000201},
		{"router client, all bits", top.RouterClientID("r1", math.MaxUint32, math.MaxUint16), 0x65f058d1ffffffff},
	} {
		if c.got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, c.got, c.want)
		}
	}
}

func TestProvenance(t *testing.T) {
	top, err := Load("testdata/mesh.toml")
	if err != nil {
		t.Fatal(err)
	}
	other := &Topology{Fabric: Fabric{Name: "another"}}
	mirror, client := top.MirrorID("eu", "us"), top.RouterClientID("r1", 77, 5)
	for _, c := range []struct {
		what string
		id   int64
		want Provenance
	}{
		{"mirror", mirror, Provenance{Mirror, "eu", "us"}},
		{"mirror, the other way", top.MirrorID("us", "eu"), Provenance{Mirror, "us", "eu"}},
		{"another name", top.NamedID("eu", "us", "orders"), Provenance{Mirror, "eu", ""}},
		{"another name of another fabric", other.NamedID("eu", "us", "orders"), Provenance{}},
		{"another name, unknown origin", top.NamedID("mars", "us", "orders"), Provenance{Kind: Forged}},
		{"router client", client, Provenance{Kind: RouterClient}},
		{"router client, all bits", top.RouterClientID("r1", math.MaxUint32, math.MaxUint16), Provenance{Kind: RouterClient}},
		{"none", -1, Provenance{}},
		{"smallest", math.MinInt64, Provenance{}},
		{"a negative one with all our bits", mirror | math.MinInt64, Provenance{}},
		{"zero", 0, Provenance{}},
		{"a broker's", 4711, Provenance{}},
		{"a broker's highest", markerBit - 1, Provenance{}},
		{"greatest", math.MaxInt64, Provenance{}},
		{"mirror of another fabric", other.MirrorID("eu", "us"), Provenance{}},
		{"router client of another fabric", other.RouterClientID("r1", 77, 5), Provenance{}},
		{"unknown origin", top.MirrorID("mars", "us"), Provenance{Kind: Forged}},
		{"unknown from", top.MirrorID("eu", "mars"), Provenance{Kind: Forged}},
		{"spare bit", mirror | 1<<spareShift, Provenance{Kind: Forged}},
		{"unknown layout", mirror | 2<<layoutShift, Provenance{Kind: Forged}},
		{"unknown layout of a client", client | 2<<layoutShift, Provenance{Kind: Forged}},
	} {
		if got := top.Provenance(c.id); got != c.want {
			t.Errorf("%s (%#x): %+v, want %+v", c.what, c.id, got, c.want)
		}
	}
	if got := (&Topology{}).Provenance(mirror); got != (Provenance{}) {
		t.Errorf("the zero topology knows %+v", got)
	}
}

// FuzzProvenance asserts that an id taken for a mirror's is exactly the one the mirror makes.
func FuzzProvenance(f *testing.F) {
	top, err := Load("testdata/mesh.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(top.MirrorID("eu", "ap"))
	f.Add(top.NamedID("eu", "ap", "orders"))
	f.Add(int64(-1))
	f.Fuzz(func(t *testing.T, id int64) {
		p := top.Provenance(id)
		if p.Kind == Mirror && p.From == "" { // the rest is a tag
			if base := top.NamedID(p.Origin, "eu", "x"); (base^id)&^(spareMask<<spareShift|int64(low(clusterBits))) != 0 {
				t.Fatalf("%#x is %+v, which has ids like %#x", id, p, base)
			}
			return
		}
		if p.Kind == Mirror && top.MirrorID(p.Origin, p.From) != id {
			t.Fatalf("%#x is %+v, which has %#x", id, p, top.MirrorID(p.Origin, p.From))
		}
		if p.Kind != Mirror && (p.Origin != "" || p.From != "") || p.Kind.String() == "" {
			t.Fatalf("%#x: %+v", id, p)
		}
	})
}
