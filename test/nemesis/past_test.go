package nemesis

import "testing"

// TestPast_WasCut: what was deleted from a log is excused when its topic has been made anew since, and not before: until then the log says where it
// begins. Nor is what was deleted only by making the topic anew. (Seed 9839: both ends had deleted it, and the mirror's map no longer has where it was.)
func TestPast_WasCut(t *testing.T) {
	p := NewPast()
	p.cut["us"] = map[cutRecord]bool{{"orders", "first", 0}: true, {"orders", "second", 1}: true}
	was := func(uid string) bool { return p.WasCut("us", "orders", uid) }
	if was("first") {
		t.Error("it is excused although its log goes on")
	}
	p.Remade("us", "orders", [16]byte{1})
	if !was("first") || was("second") || was("never") || p.WasCut("eu", "orders", "first") || p.WasCut("us", "payments", "first") {
		t.Error("what was cut of the life before is excused, and nothing else")
	}
}
