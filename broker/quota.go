package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// QuotaPart is one part of whom a quota is for.
type QuotaPart struct {
	Type    string // user, client-id or ip
	Name    string
	Default bool // for all that have no quota of their own; then there is no name
}

// Quota is what clients of a cluster may use.
type Quota struct {
	Entity []QuotaPart        // by type, in order
	Values map[string]float64 // by Kafka's name: producer_byte_rate and the like; what is NaN is taken away by [Cluster.AlterQuotas]
}

// For tells entities apart, on one line.
func (q Quota) For() string {
	parts := make([]string, len(q.Entity))
	for i, p := range q.Entity {
		name := "default"
		if !p.Default {
			name = shown(p.Name)
			if name == "default" {
				name = `"default"`
			}
		}
		parts[i] = p.Type + " " + name
	}
	return strings.Join(parts, ", ")
}

// Quotas returns the quotas of all clients, in order. [ErrUnsupported] where the brokers are too old to tell.
func (c *Cluster) Quotas(ctx context.Context) ([]Quota, error) {
	req := kmsg.NewPtrDescribeClientQuotasRequest()
	resp, err := askAny(ctx, c, *req, (*kmsg.DescribeClientQuotasRequest).RequestWith)
	if err != nil {
		return nil, c.failed(ctx, "describe client quotas", c.unsupported(ctx, req.Key(), err))
	}
	if err := codeError(resp.ErrorCode); err != nil {
		return nil, c.refused("describe the client quotas", c.profile.denied(err, "DESCRIBE_CONFIGS", "the cluster"), orEmpty(resp.ErrorMessage))
	}
	all := make([]Quota, 0, len(resp.Entries))
	for _, e := range resp.Entries {
		q := Quota{Values: make(map[string]float64, len(e.Values))}
		for _, p := range e.Entity {
			q.Entity = append(q.Entity, QuotaPart{Type: p.Type, Name: orEmpty(p.Name), Default: p.Name == nil})
		}
		slices.SortFunc(q.Entity, func(a, b QuotaPart) int { return strings.Compare(a.Type, b.Type) })
		for _, v := range e.Values {
			q.Values[v.Key] = v.Value
		}
		all = append(all, q)
	}
	slices.SortFunc(all, func(a, b Quota) int { return strings.Compare(a.For(), b.For()) })
	return all, nil
}

// AlterQuotas sets the values of quotas, and takes those away that are NaN; what is not named stays. refused has what the cluster did
// not change, by [Quota.For]; err is that of a request, after which what was not asked for yet is in neither. With dry nothing is
// changed and the answer is what it would be, as far as the cluster checks.
func (c *Cluster) AlterQuotas(ctx context.Context, dry bool, quotas []Quota) (refused map[string]error, err error) {
	refused = make(map[string]error)
	for some := range slices.Chunk(quotas, altersAtOnce) {
		req := kmsg.NewPtrAlterClientQuotasRequest()
		req.ValidateOnly = dry
		for _, q := range some {
			req.Entries = append(req.Entries, quotaEntry(q))
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err == nil && len(resp.Entries) < len(some) {
			err = protocolErrorf("%d of %d entities are in the answer", len(resp.Entries), len(some))
		}
		if err != nil {
			return refused, c.failed(ctx, "alter client quotas", c.unsupported(ctx, req.Key(), err))
		}
		for _, e := range resp.Entries { // in any order
			var q Quota
			for _, p := range e.Entity {
				q.Entity = append(q.Entity, QuotaPart{Type: p.Type, Name: orEmpty(p.Name), Default: p.Name == nil})
			}
			slices.SortFunc(q.Entity, func(a, b QuotaPart) int { return strings.Compare(a.Type, b.Type) })
			if err := codeError(e.ErrorCode); err != nil {
				what := fmt.Sprintf("alter the quota of %s", q.For())
				refused[q.For()] = c.refused(what, c.profile.denied(err, "ALTER_CONFIGS", "the cluster"), orEmpty(e.ErrorMessage))
			}
		}
	}
	return refused, nil
}

// quotaEntry is one quota as Kafka takes it.
func quotaEntry(q Quota) kmsg.AlterClientQuotasRequestEntry {
	entry := kmsg.NewAlterClientQuotasRequestEntry()
	for _, p := range q.Entity {
		part := kmsg.NewAlterClientQuotasRequestEntryEntity()
		if part.Type = p.Type; !p.Default {
			part.Name = kmsg.StringPtr(p.Name)
		}
		entry.Entity = append(entry.Entity, part)
	}
	for key, value := range q.Values {
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		if op.Key, op.Value = key, value; value != value {
			op.Value, op.Remove = 0, true
		}
		entry.Ops = append(entry.Ops, op)
	}
	return entry
}
