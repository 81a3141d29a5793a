package topology

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseKeyring(t *testing.T) {
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{0xff}, 32)
	enc := base64.StdEncoding.EncodeToString
	many := ""
	for i := range maxGossipKeys + 1 {
		many += enc(bytes.Repeat([]byte{byte(i)}, 32)) + "\n"
	}
	for _, tc := range []struct {
		name, text string
		want       [][]byte
		err        string
	}{
		{"one", enc(a), [][]byte{a}, ""},
		{"a ring in order", enc(b) + "\n" + enc(a) + "\n", [][]byte{b, a}, ""},
		{"comments, blanks, another system's lines", "# new\r\n  " + enc(a) + "\r\n\r\n#old\n" + enc(b), [][]byte{a, b}, ""},
		{"the same twice", enc(a) + "\n" + enc(a), [][]byte{a}, ""},
		{"nothing", "# none yet\n", nil, "no key in it"},
		{"text", enc(a) + "\nhunter2!", nil, "line 2 is not base64"},
		{"16 bytes", enc(a[:16]), nil, "has 16 bytes, want 32"},
		{"too many", many, nil, "more than 16 keys"},
	} {
		got, err := ParseKeyring([]byte(tc.text))
		if len(got) != len(tc.want) || (err == nil) != (tc.err == "") {
			t.Errorf("%s: %d keys, %v; want %d keys, %q", tc.name, len(got), err, len(tc.want), tc.err)
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i], tc.want[i]) {
				t.Errorf("%s: key %d is another one", tc.name, i)
			}
		}
		if err != nil && (!strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v, want %q and no part of a key", tc.name, err, tc.err)
		}
	}
}

func TestFabric_KeyringIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	text := "[fabric]\nname = \"f\"\ngossip_key = \"file:ring\"\n[[cluster]]\nname = \"a\"\nbootstrap = [\"a:1\"]\n"
	top, err := Parse(filepath.Join(dir, "x.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := top.Fabric.Keyring(); err == nil || !strings.Contains(err.Error(), "file:ring") {
		t.Errorf("a ring that is not there: %v, want an error that names the reference", err)
	}
	for i, key := range [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)} {
		if err := os.WriteFile(filepath.Join(dir, "ring"), []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if ring, err := top.Fabric.Keyring(); err != nil || len(ring) != 1 || !bytes.Equal(ring[0], key) {
			t.Errorf("ring %d: %d keys, %v", i, len(ring), err)
		}
	}
	if ring, err := (Fabric{}).Keyring(); ring != nil || err != nil {
		t.Errorf("without a reference: %v, %v, want none", ring, err)
	}
}

func TestLoad_Tier(t *testing.T) {
	top, err := Load("testdata/tier.toml")
	if err != nil {
		t.Fatal(err)
	}
	one, _ := top.Node("eu-1")
	us, _ := top.Node("us-1")
	if one.Gossip != "10.1.0.1:7946" || one.Capacity != 2.5 || us.Capacity != 1 {
		t.Errorf("nodes %+v, %+v: want capacity 2.5, and 1 where none is written", one, us)
	}
	ana, team := top.Admin.Identities[0], top.Admin.Identities[1]
	if ana.Role != Administrator || ana.Token.String() != "env:ANA_TOKEN" || team.Role != Operator || team.Subject != "payments" || !team.Topics.Match("payments-1") {
		t.Errorf("identities %+v", top.Admin.Identities)
	}
	shop := top.Routers[0]
	if shop.Slots != (Ports{9093, 9098}) || shop.Auth != PassThrough || shop.Sets[0].Home != "us" || shop.Sets[0].Slots != (Ports{9103, 9108}) {
		t.Errorf("router %+v", shop)
	}
	if edge := top.Routers[2]; edge.Slots != (Ports{9193, 9193}) || edge.Auth != Terminate {
		t.Errorf("router %+v", edge)
	}
}

// TestControls: all clusters, unless the file names some.
func TestControls(t *testing.T) {
	text := string(read(t, "testdata/tier.toml"))
	for leftOut, want := range map[string][]string{"": {"us", "eu"}, "control = [\"us\", \"eu\"]\n": {"eu", "us"}} {
		top, err := Parse("x.toml", []byte(strings.Replace(text, leftOut, "", 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got := top.Controls(); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
