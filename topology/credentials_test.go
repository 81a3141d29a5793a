package topology

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const users = `version = 1

[[user]]
name = "anna"
password = "env:ANNA"
[user.at.eu]
mechanism = "SCRAM-SHA-512"
username = "shop-anna"
password = "file:anna-eu"
[user.at.us]
mechanism = "PLAIN"
username = "anna"
password = "env:ANNA_US"

[[user]]
name = "billing"
certificate = "CN=billing,O=Shop"
at = { eu = { mechanism = "SCRAM-SHA-256", username = "billing", password = "env:BILLING" } }
`

func TestParseUsers(t *testing.T) {
	got, err := ParseUsers("/etc/isthmus/users.toml", []byte(users))
	if err != nil {
		t.Fatal(err)
	}
	ref := func(text string) Secret { return Secret{ref: text, base: "/etc/isthmus"} }
	want := []User{
		{Name: "anna", Line: 3, Password: ref("env:ANNA"), At: map[string]SASL{
			"eu": {Mechanism: ScramSHA512, User: "shop-anna", Password: ref("file:anna-eu")},
			"us": {Mechanism: Plain, User: "anna", Password: ref("env:ANNA_US")},
		}},
		{Name: "billing", Line: 15, Certificate: "CN=billing,O=Shop", At: map[string]SASL{"eu": {Mechanism: ScramSHA256, User: "billing", Password: ref("env:BILLING")}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestParse_CredentialsOfInstances: each instance of a router may have its users in another file.
func TestParse_CredentialsOfInstances(t *testing.T) {
	text := "[fabric]\nname = \"shop\"\n[[cluster]]\nname = \"eu\"\nbootstrap = [\"127.0.0.1:9092\"]\nsasl = { mechanism = \"PLAIN\", user = \"u\", password = \"env:P\" }\n"
	for i := range 2 {
		text += fmt.Sprintf("[[node]]\nname = \"n%d\"\ngossip = \"127.0.0.1:%d\"\n[[router]]\nname = \"shop\"\nnode = \"n%[1]d\"\nlisten = \"127.0.0.1:%[3]d\"\nadvertise = \"127.0.0.1\"\nslots = \"%[4]d\"\nhome = \"eu\"\n"+
			"auth = \"terminate\"\ncredentials = \"file:%[1]d/users.toml\"\n", i, 7946+i, 9100+2*i, 9101+2*i)
	}
	top, err := Parse("/etc/isthmus.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("/etc/isthmus.toml", []byte(top.Export()))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range again.Routers {
		if path, ok := r.Credentials.File(); !ok || path != fmt.Sprintf("/etc/%d/users.toml", i) {
			t.Errorf("%s has its users in %q", r.instance(), path)
		}
	}
}

// TestParseUsers_Faults: all faults of a file are told at once, with their lines, and none with a secret.
func TestParseUsers_Faults(t *testing.T) {
	const own = `at = { eu = { mechanism = "PLAIN", username = "a", password = "env:A" } }` + "\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"empty":              {"", []string{"f:1:1: the file is empty; begin with version = 1"}},
		"no users":           {"version = 1\n", []string{"f:2:1: no [[user]]"}},
		"no version":         {"[[user]]\nname = \"a\"\npassword = \"env:A\"\n" + own, []string{"f:1:1: the file says no version; begin with version = 1"}},
		"another version":    {"version = 2\nanything = 1\n", []string{`f:2:1: unknown key "anything" at the top; known here: version, user`, "f:1:11: version: this Isthmus knows 1 alone"}},
		"a version in words": {"version = \"1\"\n", []string{"f:1:11: version: this Isthmus knows 1 alone"}},
		"nowhere":            {"version = 1\n[[user]]\nname = \"a\"\npassword = \"env:A\"\nat = {}\n", []string{"f:5:6: at is empty"}},
		"no TOML":            {"version = 1\n[[user]\n", []string{"f:2:"}},
		"twice the same": {"version = 1\n[[user]]\nname = \"a\"\ncertificate = \"CN=a\"\n" + own + "[[user]]\nname = \"a\"\ncertificate = \"CN=a\"\n" + own, []string{
			`f:7:8: the user "a" is already taken in line 3`, `f:8:15: the certificate "CN=a" is already taken in line 4`}},
		"all that can be wrong": {`version = 1
shared = "env:ALL"
[[user]]
password = "hunter2"
[user.at.eu]
mechanism = "OAUTHBEARER"
user = "a"
password = "hunter2"
[[user]]
name = "b"
[[user]]
name = "c\u0000d"
certificate = ""
[user.at."e u"]
[[user]]
name = "e"
pasword = "env:E"
at = { eu = 1 }
`, []string{
			`f:2:1: unknown key "shared" at the top`, "f:3:1: [[user]] has no name", "f:4:12: password holds a literal secret", `f:6:13: unknown mechanism "OAUTHBEARER"; write one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512`,
			`f:7:1: unknown key "user" in at.eu; known here: mechanism, username, password`, "f:8:12: password holds a literal secret", "f:9:1: [[user]] has neither password nor certificate", "f:9:1: [[user]] has no at",
			"f:12:8: name: ", "f:13:15: certificate is empty", `f:14:10: at: "e u" is no cluster's name`, `f:17:1: unknown key "pasword" in [[user]]; did you mean password?`, "f:18:13: eu is an integer, not a table",
		}},
	} {
		got, err := ParseUsers("f", []byte(tc.text))
		if err == nil || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: it does not say %q:\n%v", name, w, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: it says a secret:\n%v", name, err)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte(users))
	f.Add([]byte("version = 1\n[[user]]\nname = \"\"\nat = { a = {} }\n"))
	f.Add([]byte("version = 1\nuser = [{}, 1]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseUsers("f", data)
		if err != nil {
			if got != nil {
				t.Errorf("%v and %v", got, err)
			}
			return
		}
		seen := make(map[string]bool)
		for _, u := range got {
			if u.Name == "" || seen[u.Name] || u.Line < 1 || len(u.At) == 0 || u.Password.IsZero() && u.Certificate == "" {
				t.Errorf("%+v", u)
			}
			seen[u.Name] = true
			for cluster, own := range u.At {
				if !identity.MatchString(cluster) || own.Mechanism == "" || own.User == "" || own.Password.IsZero() {
					t.Errorf("%s: %s", cluster, fmt.Sprint(own))
				}
			}
		}
	})
}
