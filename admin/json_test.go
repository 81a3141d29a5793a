package admin

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func TestJSON(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC))
	for _, tc := range []struct {
		name string
		m    proto.Message
		want string
	}{
		{"big numbers are numbers", &adminpb.TranslateResponse{From: "eu", To: "us", Topic: `a"b`, Offset: math.MaxInt64, Result: -1},
			`{"from":"eu","to":"us","topic":"a\"b","partition":0,"offset":9223372036854775807,"result":-1,"exact":false,"as":""}`},
		{"times and lists", &adminpb.StatusResponse{Node: &adminpb.Node{Name: "n", Started: at}, Links: []*adminpb.Link{{Name: "l", Up: true}}},
			`{"node":{"name":"n","writer":"","version":"","started":"2026-03-04T05:06:07.008Z","now":null},` +
				`"links":[{"name":"l","from":"","to":"","up":true,"trouble":"","since":null,"flows":[],"guarantee":"unspecified","guarantee_why":""}],"unanswered":[]}`},
		{"nothing set", &adminpb.StatusResponse{}, `{"node":null,"links":[],"unanswered":[]}`},
		{"enums", &adminpb.Partition{State: adminpb.State_STATE_RETRYING, LagSeconds: 1.5, SeenSecondsAgo: math.NaN()},
			`{"partition":0,"state":"retrying","reason":"","since":null,"attempts":0,"next_try":null,"source_next":0,"source_end":0,` +
				`"target_last":0,"lag_records":0,"lag_bytes":0,"lag_seconds":1.5,"seen_seconds_ago":null,"runs":0,"fenced":0,"buffered_bytes":0,"reads_from":0,"node":"","also":[],"cause":"","headroom_seconds":0,"headroom_bytes":0}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := JSON(tc.m)
			if err != nil || string(got) != tc.want || !json.Valid(got) {
				t.Errorf("got %s (%v)\nwant %s", got, err, tc.want)
			}
		})
	}
}

func TestName(t *testing.T) {
	if got := Name(adminpb.EventKind_EVENT_KIND_MEMBER); got != "member" {
		t.Errorf("a kind of a type with two words is %q, want it without the type", got)
	}
	if got := Name(adminpb.State(77)); got != "77" {
		t.Errorf("a state of a newer node is %q, want its number", got)
	}
}
