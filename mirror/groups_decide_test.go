package mirror

import "testing"

// TestGroupCase_Decide: who leads, who follows, and who is left alone.
func TestGroupCase_Decide(t *testing.T) {
	at := func(offset int64) *groupPosition { return &groupPosition{offset: offset, time: -1} }
	when := func(offset, time int64) *groupPosition { return &groupPosition{offset: offset, time: time} }
	side := func(at *groupPosition, there int64) groupSide { return groupSide{at: at, there: there, ok: true} }
	ahead := func(at *groupPosition) groupSide { return groupSide{at: at} }
	active := func(s groupSide) groupSide { s.active = true; return s }
	noted := &groupPair{source: 100, target: 90}
	for name, tc := range map[string]struct {
		c    groupCase
		want groupDo
		to   int64
	}{
		"nobody has it":                                {groupCase{}, groupNothing, 0},
		"nobody has it any more":                       {groupCase{noted: noted}, groupForget, 0},
		"new at the source":                            {groupCase{source: side(at(100), 90)}, groupSetTarget, 90},
		"new at the source, not copied yet":            {groupCase{source: ahead(at(100))}, groupWaits, 0},
		"new at the target":                            {groupCase{target: side(at(90), 100)}, groupNothing, 0},
		"new at the target, of a link both ways":       {groupCase{target: side(at(90), 100), both: true}, groupSetSource, 100},
		"as noted":                                     {groupCase{source: side(at(100), 90), target: side(at(90), 100), noted: noted}, groupNothing, 0},
		"went on at the source":                        {groupCase{source: side(at(120), 110), target: side(at(90), 100), noted: noted}, groupSetTarget, 110},
		"rewound at the source":                        {groupCase{source: side(at(20), 10), target: side(at(90), 100), noted: noted}, groupSetTarget, 10},
		"ahead of what was copied":                     {groupCase{source: ahead(at(120)), target: side(at(90), 100), noted: noted}, groupWaits, 0},
		"went on at the source, members at the target": {groupCase{source: side(at(120), 110), target: active(side(at(90), 100)), noted: noted}, groupBlocked, 0},
		"went on at the target":                        {groupCase{source: side(at(100), 90), target: active(side(at(95), 105)), noted: noted}, groupSetSource, 105},
		"rewound at the target":                        {groupCase{source: side(at(100), 90), target: side(at(5), 15), noted: noted}, groupSetSource, 15},
		"went on at the target, members at the source": {groupCase{source: active(side(at(100), 90)), target: side(at(95), 105), noted: noted}, groupBlocked, 0},
		"set, and not noted before the process ended":  {groupCase{source: side(at(120), 110), target: side(at(110), 120), noted: noted}, groupNote, 0},
		"alike by the way back":                        {groupCase{source: side(at(121), 111), target: side(at(110), 121), noted: noted}, groupNote, 0},
		"both, members at the source":                  {groupCase{source: active(side(at(120), 110)), target: side(at(95), 105), noted: noted}, groupSetTarget, 110},
		"both, members at the target":                  {groupCase{source: side(at(120), 110), target: active(side(at(95), 105)), noted: noted}, groupSetSource, 105},
		"both, members on both sides":                  {groupCase{source: active(side(at(120), 110)), target: active(side(at(95), 105)), noted: noted}, groupSplit, 0},
		"both, the source later":                       {groupCase{source: side(when(120, 7), 110), target: side(when(95, 6), 105), noted: noted}, groupSetTarget, 110},
		"both, the target later":                       {groupCase{source: side(when(120, 6), 110), target: side(when(95, 7), 105), noted: noted}, groupSetSource, 105},
		"both, the source skips nothing":               {groupCase{source: side(at(104), 94), target: side(at(95), 105), noted: noted}, groupSetTarget, 94},
		"both, the target skips nothing":               {groupCase{source: side(at(120), 110), target: side(at(95), 105), noted: noted}, groupSetSource, 105},
		"both, the source ahead":                       {groupCase{source: ahead(at(120)), target: side(at(95), 105), noted: noted}, groupWaits, 0},
		"on both sides for the first time":             {groupCase{source: side(at(120), 110), target: side(at(95), 105)}, groupSetSource, 105},
		"alike for the first time":                     {groupCase{source: side(at(120), 110), target: side(at(110), 120)}, groupNote, 0},
		"expired at the target":                        {groupCase{source: side(at(100), 90), noted: noted}, groupSetTarget, 90},
		"expired at the source, members at the target": {groupCase{target: active(side(at(90), 100)), noted: noted}, groupSetSource, 100},
		"gone at the source":                           {groupCase{target: side(at(90), 100), noted: noted}, groupNothing, 0},
		"gone at the source alone of a group":          {groupCase{target: side(at(90), 100), noted: noted, follows: true}, groupNothing, 0},
		"gone with its group, of a link that follows":  {groupCase{target: side(at(90), 100), noted: noted, follows: true, gone: true}, groupDelete, 0},
		"gone with its group, members at the target":   {groupCase{target: active(side(at(90), 100)), noted: noted, follows: true, gone: true}, groupSetSource, 100},
		"gone with its group, moved at the target":     {groupCase{target: side(at(95), 105), noted: noted, follows: true, gone: true}, groupSetSource, 105},
		"gone with its group, never at the source":     {groupCase{target: side(at(90), 100), follows: true, gone: true}, groupNothing, 0},
		"gone at the source, went on at the target":    {groupCase{target: side(at(95), 105), noted: noted}, groupSetSource, 105},
	} {
		if do, to := tc.c.decide(); do != tc.want || to.offset != tc.to {
			t.Errorf("%s: do %d to %d, want %d to %d", name, do, to.offset, tc.want, tc.to)
		}
	}
}
