package secure

import (
	"testing"

	"github.com/isthmus-project/isthmus/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// TestSecure_BetweenRealBrokers runs all tests on one pair of clusters, because a start takes longer than most of them.
func TestSecure_BetweenRealBrokers(t *testing.T) {
	p := startPair(t)
	t.Run("mechanisms", p.mechanisms)
	t.Run("refusals", p.saysWhatIsWrong)
	t.Run("rights", p.rights)
	t.Run("rotation", p.rotation)
}
