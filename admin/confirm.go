package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// confirmToken is a short hash of a plan: what it tells people, and the settings with the versions that it replaces. Any other
// plan has another one, so that nobody confirms what they have not seen.
func confirmToken(verb string, plan *Plan) string {
	texts := append([]string{verb, plan.Stops}, plan.Lines...)
	for _, e := range plan.Change.Entries {
		value := string(e.Value)
		if strings.HasPrefix(e.Key, "pause/") {
			value = "" // its end is counted from the request
		}
		texts = append(texts, e.Key, value, strconv.FormatBool(e.Deleted), e.Base.String())
	}
	return tokenOf(texts...)
}

func tokenOf(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil)[:5])
}

// confirmed checks the token that came with a write. One that was not needed has to fit all the same.
func confirmed(have, want string, needs bool, stops string) error {
	switch {
	case have == "" && !needs:
		return nil
	case have == "":
		why := ""
		if stops != "" {
			why = " (" + stops + ")"
		}
		return fmt.Errorf("%w%s: do a dry run, and send the token that it prints", ErrConfirm, why)
	case subtle.ConstantTimeCompare([]byte(have), []byte(want)) != 1:
		return fmt.Errorf("%w: %.40q is not the token of what would be done now; do the dry run again and look at its plan", ErrConfirm, have)
	}
	return nil
}
