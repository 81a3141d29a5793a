package apis

import "github.com/twmb/franz-go/pkg/kmsg"

// byKey has the rows of each key, in the order of their versions.
var byKey = func() (out [kmsg.MaxKey + 1][]Row) {
	for _, r := range table {
		out[r.Key] = append(out[r.Key], r)
	}
	return out
}()

// Of returns the row of a request. False means a key or a version that this build does not know; then it is to be hidden.
func Of(key, version int16) (Row, bool) {
	if key < 0 || key > kmsg.MaxKey {
		return Row{}, false
	}
	for i := range byKey[key] {
		if r := &byKey[key][i]; version >= r.From && version <= r.To {
			return *r, true
		}
	}
	return Row{}, false
}

// never is above any version.
const never = 1<<15 - 1

// flexibleFrom has the first flexible version of each key.
var flexibleFrom = func() (out [kmsg.MaxKey + 1]int16) {
	for key := range out {
		out[key] = never
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := range req.MaxVersion() + 1 {
			if req.SetVersion(v); req.IsFlexible() {
				out[key] = v
				break
			}
		}
	}
	return out
}()

// Flexible reports whether a version has tags, in its body and in the header of its request. Versions above those that are known have
// what the newest known one has.
func Flexible(key, version int16) bool {
	return key >= 0 && key <= kmsg.MaxKey && version >= flexibleFrom[key]
}

// AnswerTags reports whether the header of an answer has tags. That to ApiVersions never has (KIP-511).
func AnswerTags(key, version int16) bool {
	return key != int16(kmsg.ApiVersions) && Flexible(key, version)
}
