package judge

import "github.com/isthmus-project/isthmus/checker"

// Kinds is what an entry of a mirror's ledger admits, by its reason and the number of records it tells of (-1: unknown). Of an unknown number
// some of the range may be there. Reasons that admit nothing of the target's records have none.
func Kinds(reason string, records int64) []checker.LedgerKind {
	switch reason {
	case "behind-retention", "truncated-target", "dead-letter", "skipped", "anchored":
		if records < 0 {
			return []checker.LedgerKind{checker.Perhaps}
		}
		return []checker.LedgerKind{checker.Missing}
	case "truncated-source":
		return []checker.LedgerKind{checker.Survived}
	case "repeated":
		return []checker.LedgerKind{checker.Repeated}
	case "order-break":
		return []checker.LedgerKind{checker.Repeated, checker.Reordered}
	}
	return nil
}
