package broker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ACL is one rule of a cluster about who may do what with which resources. It is comparable.
type ACL struct {
	Resource  kmsg.ACLResourceType
	Pattern   kmsg.ACLResourcePatternType // literal or prefixed
	Name      string                      // of the resource, or what its name begins with; literally "*" is all
	Principal string                      // User:NAME
	Host      string                      // "*" is any
	Operation kmsg.ACLOperation
	Allow     bool // false: it forbids
}

// String tells rules apart, on one line.
func (a ACL) String() string {
	verb := "deny"
	if a.Allow {
		verb = "allow"
	}
	return fmt.Sprintf("%s %s from %s to %s %s %s %s", verb, shown(a.Principal), shown(a.Host), lower(a.Operation), lower(a.Resource), lower(a.Pattern), shown(a.Name))
}

func lower(s fmt.Stringer) string { return strings.ToLower(s.String()) }

// shown is a name as it is, or quoted where it would not be told from its neighbours.
func shown(name string) string {
	if name == "" || strings.ContainsAny(name, " \t\"\\") || !strconv.CanBackquote(name) {
		return strconv.Quote(name)
	}
	return name
}

// ACLs returns all rules of the cluster, in order. The error of a cluster that checks no rights is kerr.SecurityDisabled.
func (c *Cluster) ACLs(ctx context.Context) ([]ACL, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := askAny(ctx, c, *req, (*kmsg.DescribeACLsRequest).RequestWith)
	if err != nil {
		return nil, c.failed(ctx, "describe ACLs", err)
	}
	if err := codeError(resp.ErrorCode); err != nil {
		return nil, c.refused("describe the ACLs", c.profile.denied(err, "DESCRIBE", "the cluster"), orEmpty(resp.ErrorMessage))
	}
	var all []ACL
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			all = append(all, ACL{Resource: r.ResourceType, Pattern: r.ResourcePatternType, Name: r.ResourceName,
				Principal: a.Principal, Host: a.Host, Operation: a.Operation, Allow: a.PermissionType == kmsg.ACLPermissionTypeAllow})
		}
	}
	slices.SortFunc(all, func(a, b ACL) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

func (a ACL) permission() kmsg.ACLPermissionType {
	if a.Allow {
		return kmsg.ACLPermissionTypeAllow
	}
	return kmsg.ACLPermissionTypeDeny
}

// CreateACLs adds rules; one that is there already is no error. refused has those that the cluster did not take; err is that of a
// request, after which what was not asked for yet is in neither.
func (c *Cluster) CreateACLs(ctx context.Context, rules []ACL) (refused map[ACL]error, err error) {
	refused = make(map[ACL]error)
	for some := range slices.Chunk(rules, altersAtOnce) {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, a := range some {
			r := kmsg.NewCreateACLsRequestCreation()
			r.ResourceType, r.ResourcePatternType, r.ResourceName = a.Resource, a.Pattern, a.Name
			r.Principal, r.Host, r.Operation, r.PermissionType = a.Principal, a.Host, a.Operation, a.permission()
			req.Creations = append(req.Creations, r)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err == nil && len(resp.Results) != len(some) {
			err = protocolErrorf("%d of %d rules are in the answer", len(resp.Results), len(some))
		}
		if err != nil {
			return refused, c.failed(ctx, "create ACLs", err)
		}
		for i, r := range resp.Results {
			c.refuse(refused, "create", some[i], r.ErrorCode, r.ErrorMessage)
		}
	}
	return refused, nil
}

// DeleteACLs takes exactly these rules away; one that is not there is no error. The answer is as that of CreateACLs.
func (c *Cluster) DeleteACLs(ctx context.Context, rules []ACL) (refused map[ACL]error, err error) {
	refused = make(map[ACL]error)
	for some := range slices.Chunk(rules, altersAtOnce) {
		req := kmsg.NewPtrDeleteACLsRequest()
		for _, a := range some {
			f := kmsg.NewDeleteACLsRequestFilter()
			f.ResourceType, f.ResourcePatternType, f.ResourceName = a.Resource, a.Pattern, kmsg.StringPtr(a.Name)
			f.Principal, f.Host, f.Operation, f.PermissionType = kmsg.StringPtr(a.Principal), kmsg.StringPtr(a.Host), a.Operation, a.permission()
			req.Filters = append(req.Filters, f)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err == nil && len(resp.Results) != len(some) {
			err = protocolErrorf("%d of %d rules are in the answer", len(resp.Results), len(some))
		}
		if err != nil {
			return refused, c.failed(ctx, "delete ACLs", err)
		}
		for i, r := range resp.Results {
			c.refuse(refused, "delete", some[i], r.ErrorCode, r.ErrorMessage)
			for _, m := range r.MatchingACLs {
				c.refuse(refused, "delete", some[i], m.ErrorCode, m.ErrorMessage)
			}
		}
	}
	return refused, nil
}

// refuse notes what a cluster said to one rule, if it refused it.
func (c *Cluster) refuse(refused map[ACL]error, verb string, a ACL, code int16, words *string) {
	if err := codeError(code); err != nil {
		refused[a] = c.refused(fmt.Sprintf("%s the ACL %q", verb, a), c.profile.denied(err, "ALTER", "the cluster"), orEmpty(words))
	}
}
