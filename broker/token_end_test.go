package broker

import (
	"encoding/base64"
	"testing"
	"time"
)

func TestBearerEnd_IsTheTokensOwnWord(t *testing.T) {
	jwt := func(claims string) string {
		return "n,,\x01auth=Bearer e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln\x01\x01"
	}
	for _, tc := range []struct {
		name, first string
		want        int64 // 0 = it does not tell
	}{
		{"seconds", jwt(`{"exp":1700000000}`), 1700000000},
		{"fraction", jwt(`{"exp":1700000000.5}`), 1700000000},
		{"no end", jwt(`{}`), 0},
		{"far future", jwt(`{"exp":1e300}`), 0},
		{"text", jwt(`{"exp":"soon"}`), 0},
		{"no JSON", jwt(`exp`), 0},
		{"opaque", "n,,\x01auth=Bearer abc\x01\x01", 0},
		{"damaged", "n,,\x01auth=Bearer a.*.c\x01\x01", 0},
		{"another mechanism", "\x00user\x00a.b.c", 0},
		{"nothing", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := bearerEnd([]byte(tc.first))
			if ok != (tc.want != 0) || ok && !got.Equal(time.Unix(tc.want, 0)) {
				t.Errorf("ends at %v, %v; want %d", got, ok, tc.want)
			}
		})
	}
}
