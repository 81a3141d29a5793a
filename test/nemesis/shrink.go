package nemesis

import "slices"

// shrink drops steps as long as the plan still fails: large parts first, then one by one.
func shrink(p Plan, fails func(Plan) bool) Plan {
	for part := (len(p.Steps) + 1) / 2; part > 0; part /= 2 {
		for at := 0; at < len(p.Steps); {
			less := p
			less.Steps = slices.Delete(slices.Clone(p.Steps), at, min(at+part, len(p.Steps)))
			if fails(less) {
				p = less
				continue
			}
			at += part
		}
	}
	return p
}
