package node

import (
	"testing"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// TestStates_AllAreTold: every state of the API is one of mirror's, by the same name.
func TestStates_AllAreTold(t *testing.T) {
	told := map[adminpb.State]bool{adminpb.State_STATE_UNSPECIFIED: true}
	for from, to := range states {
		told[to] = true
		if admin.Name(to) != string(from) {
			t.Errorf("%s is told as %s", from, admin.Name(to))
		}
	}
	for n, name := range adminpb.State_name {
		if !told[adminpb.State(n)] {
			t.Errorf("no state of mirror is told as %s", name)
		}
	}
}
