package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// placesOf are the positions of links' groups in short.
func placesOf(links []*adminpb.LinkGroups) (out []string) {
	for _, l := range links {
		for _, p := range l.GetPositions() {
			out = append(out, fmt.Sprintf("%s %s %s:%d", l.GetLink(), p.GetGroup(), p.GetTopic(), p.GetPartition()))
		}
	}
	return out
}

func TestGroups_OfOneLinkAndOfAll(t *testing.T) {
	town, nodes := fabric(t, nil, "a")
	c := town.client(t, "a", Login{})
	for _, tc := range []struct {
		link, group string
		want        []string
	}{
		{"", "", []string{"eu-us billing payments:0", "eu-us shop orders:0", "eu-us shop orders:2", "eu-us shop payments:1", "us-eu shop orders:0"}},
		{"us-eu", "", []string{"us-eu shop orders:0"}},
		{"", "billing", []string{"eu-us billing payments:0"}},
		{"eu-us", "nobody", nil},
	} {
		res, err := c.Groups(t.Context(), tc.link, tc.group)
		if got := placesOf(res.GetLinks()); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("groups of link %q, group %q: %q, %v, want %q", tc.link, tc.group, got, err, tc.want)
		}
	}
	res, err := c.Groups(t.Context(), "eu-us", "")
	if err != nil || res.Links[0].Node != "a" || time.Since(res.Links[0].At.AsTime()) > time.Hour || !res.Links[0].Keeps {
		t.Errorf("got %v, %v, want who asked, and when", res, err)
	}
	if _, err := c.Groups(t.Context(), "eu-mars", ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown link: %v, want ErrUnknown", err)
	}
	nodes["a"].missing = "us-eu" // of all, one that fails does not hide the others
	res, err = c.Groups(t.Context(), "", "")
	if err != nil || len(res.Links) != 2 || len(res.Links[0].Positions) != 4 || !strings.Contains(res.Links[1].Trouble, "us-eu") {
		t.Errorf("got %v, %v, want four positions of eu-us, and why there are none of us-eu", res, err)
	}
}

func TestGroups_AnyNodeThatReachesBothAnswers(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	c := town.client(t, "a", Login{})
	fails := func(name string) {
		nodes[name].mu.Lock()
		defer nodes[name].mu.Unlock()
		nodes[name].broken = fmt.Errorf("cluster us is away: %w", ErrNotReady)
	}
	fails("a")
	fails("b")
	res, err := c.Groups(t.Context(), "eu-us", "shop")
	if err != nil || len(res.Links) != 1 || res.Links[0].Node != "c" || len(res.Links[0].Positions) != 3 {
		t.Errorf("got %v, %v, want the answer of c", res, err)
	}
	fails("c")
	if _, err := c.Groups(t.Context(), "eu-us", ""); !errors.Is(err, ErrUnreachable) || strings.Count(err.Error(), "cluster us is away") != 3 {
		t.Errorf("got %v, want why none of the three can", err)
	}
	if res, err := c.Groups(t.Context(), "", ""); err != nil || strings.Count(fmt.Sprint(res.GetLinks()), "cluster us is away") != 6 {
		t.Errorf("all links: %v, %v, want both links with why", res, err)
	}
}

// TestTranslateGroup: each position is translated by the node that copies its partition.
func TestTranslateGroup(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	c := town.client(t, "a", Login{})
	told := func(res *adminpb.TranslateGroupResponse) (out []string) {
		for _, p := range res.GetPositions() {
			out = append(out, fmt.Sprintf("%s:%d@%d %d", p.GetTopic(), p.GetPartition(), p.GetOffset(), p.GetResult()))
		}
		return out
	}
	for _, tc := range []struct {
		name    string
		group   string
		reverse bool
		want    []string
	}{
		{"forward", "shop", false, []string{"orders:0@10 17", "orders:2@30 37", "payments:1@20 27"}},
		{"reverse", "shop", true, []string{"orders:0@17 24", "payments:1@27 34"}},
		{"not there", "billing", false, nil},
	} {
		res, err := c.TranslateGroup(t.Context(), &adminpb.TranslateGroupRequest{Link: "eu-us", Group: tc.group, Reverse: tc.reverse})
		if err != nil || !slices.Equal(told(res), tc.want) || (res.From == "us") != tc.reverse || res.From == res.To {
			t.Errorf("%s: got %q of %v, %v, want %q", tc.name, told(res), res, err, tc.want)
		}
	}
	nodes["b"].mu.Lock()
	nodes["b"].broken = errors.New("its disk is full")
	nodes["b"].mu.Unlock()
	res, err := c.TranslateGroup(t.Context(), &adminpb.TranslateGroupRequest{Link: "eu-us", Group: "shop"})
	if err != nil || !slices.Equal(told(res), []string{"orders:0@10 17", "orders:2@30 37", "payments:1@20 -1"}) || !strings.Contains(res.Positions[2].Trouble, "no node that answers copies it") {
		t.Errorf("got %v, %v, want two positions, and why there is none for the third", res, err)
	}
	for _, req := range []*adminpb.TranslateGroupRequest{{Link: "eu-us"}, {Group: "shop"}} {
		if _, err := c.TranslateGroup(t.Context(), req); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v, want ErrInvalid", req, err)
		}
	}
}

func TestTranslateGroup_OfALinkThatKeepsNone(t *testing.T) {
	town := newCity()
	town.add(t, "a", otherGroups{newFake("a"), func(of *adminpb.LinkGroups) { of.Keeps, of.Positions = false, nil }}, nil)
	_, err := town.client(t, "a", Login{}).TranslateGroup(t.Context(), &adminpb.TranslateGroupRequest{Link: "eu-us", Group: "shop"})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `groups = ["shop"]`) {
		t.Errorf("got %v, want ErrInvalid that says what to write into the file", err)
	}
}

// TestGroups_NotForTooManyAtOnce: each question asks both clusters for much.
func TestGroups_NotForTooManyAtOnce(t *testing.T) {
	s := &service{self: "a", node: newFake("a"), groups: make(places, 1), now: time.Now}
	s.groups.take()
	if _, err := s.Groups(t.Context(), &adminpb.GroupsRequest{Link: "eu-us"}); !strings.Contains(fmt.Sprint(err), "1 questions about groups") {
		t.Errorf("groups: %v, want a refusal", err)
	}
	if _, err := s.TranslateGroup(t.Context(), &adminpb.TranslateGroupRequest{Link: "eu-us", Group: "shop"}); !strings.Contains(fmt.Sprint(err), "1 questions about groups") {
		t.Errorf("translate: %v, want a refusal", err)
	}
	s.groups.leave()
	for range 2 { // each leaves its place
		if _, err := s.Groups(t.Context(), &adminpb.GroupsRequest{Link: "eu-us"}); err != nil {
			t.Error(err)
		}
		if _, err := s.TranslateGroup(t.Context(), &adminpb.TranslateGroupRequest{Link: "eu-us", Group: "shop"}); err != nil {
			t.Error(err)
		}
	}
}
