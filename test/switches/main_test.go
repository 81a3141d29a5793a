package switches

import (
	"testing"

	"github.com/isthmus-project/isthmus/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }
