package topology

import "testing"

// TestQuota_Fits: both patterns must, and who has not logged in is no principal.
func TestQuota_Fits(t *testing.T) {
	top, err := Load("testdata/quota.toml")
	if err != nil {
		t.Fatal(err)
	}
	quotas := top.Routers[0].Quotas
	if len(quotas) != 3 || quotas[0].ProduceRate != 10_000_000 || quotas[0].FetchRate != 20_000_000 || quotas[0].RequestRate != 0 || quotas[2].RequestRate != 500 {
		t.Fatalf("%+v", quotas)
	}
	any, err := ParsePattern("*")
	if err != nil {
		t.Fatal(err)
	}
	quotas = append(quotas, Quota{Principals: Patterns{any}})
	for _, tc := range []struct {
		client, principal string
		want              string // a digit for each that fits
	}{
		{"batch-1", "", "02"}, {"load-7", "anna", "023"}, {"load-x", "", "2"}, {"nightly", "reports", "123"}, {"nightly", "", "2"}, {"nightly", "anna", "23"}, {"", "", "2"},
	} {
		got := ""
		for i, q := range quotas {
			if q.Fits(tc.client, tc.principal) {
				got += string(rune('0' + i))
			}
		}
		if got != tc.want {
			t.Errorf("client id %q, principal %q: %q fit, want %q", tc.client, tc.principal, got, tc.want)
		}
	}
}
