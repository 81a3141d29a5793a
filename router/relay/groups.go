package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/members"
	"github.com/isthmus-project/isthmus/router/sets"
)

// book is what is to be asked about requests of groups; nil for nothing.
func (r *Relay) book() *members.Book {
	if r.cfg.Members == nil {
		return nil
	}
	return r.cfg.Members()
}

// ofGroup does with a request of a group what is to be done after the home has changed.
func (r *Relay) ofGroup(ctx context.Context, h frame.Request, o owed, row apis.Row, b *members.Book) error {
	in, body, give, err := r.request(ctx, h, r.cfg.Limits.Collected)
	if err != nil {
		return err
	}
	defer give()
	m := kmsg.RequestForKey(h.Key)
	m.SetVersion(h.Version)
	if err := m.ReadFrom(body); err != nil {
		return failed(Client, "read a request", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if r.sets != nil {
		if refused := sets.Refuse(m, r.sets); refused != nil {
			return r.answerHere(h, refused)
		}
	}
	deed := b.Request(time.Now(), m)
	if deed.Answer != nil {
		return r.answerHere(h, deed.Answer)
	}
	if join, isJoin := m.(*kmsg.JoinGroupRequest); isJoin && deed.Handshake {
		refused, err := r.introduceMember(join)
		if err != nil {
			return err
		}
		if refused != nil {
			return r.answerHere(h, refused)
		}
	}
	if deed.Wait != nil {
		if err := r.barrier(ctx, h, deed); err != nil {
			return err
		}
	}
	o.edit, o.after = deed.Edit, deed.Whole
	if err := r.sendOn(h, o, row, in, m.AppendTo(nil)); err != nil {
		return err
	}
	if deed.Sent != nil {
		deed.Sent()
	}
	return nil
}

// holdBack waits until the others of a group have sent their requests.
func (r *Relay) holdBack(until <-chan struct{}) {
	timer := time.NewTimer(members.Together)
	defer timer.Stop()
	select {
	case <-until:
	case <-timer.C:
	case <-r.over:
	}
}

// barrier waits until the others of a group are back. Meanwhile the home may move again; then the member has its id of a home that was left, and hears that it is not known.
func (r *Relay) barrier(ctx context.Context, h frame.Request, d members.Deed) error {
	timer := time.NewTimer(time.Until(d.Until))
	defer timer.Stop()
	select {
	case <-d.Wait:
	case <-timer.C:
	case <-r.over:
		return r.cause()
	}
	if _, err := r.staged(ctx, h); err != nil { // who joins is never answered here
		return err
	}
	return r.connect(ctx, h.Key)
}

// introduceMember gets a member its id at the home. What the home answers instead of one is the client's answer.
func (r *Relay) introduceMember(m *kmsg.JoinGroupRequest) (refused kmsg.Response, err error) {
	resp, err := r.ask(m)
	if err != nil {
		return nil, err
	}
	got := resp.(*kmsg.JoinGroupResponse)
	if got.ErrorCode != kerr.MemberIDRequired.Code {
		return got, nil
	}
	m.MemberID = got.MemberID
	return nil, nil
}
