package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin"
)

// Where a node listens when its file and its flags say nothing.
const (
	defaultHTTP = "127.0.0.1:7070"
	defaultGRPC = "127.0.0.1:7071"
)

// knockAtMost bounds how long one of several nodes may take before the next one is asked.
const knockAtMost = 2 * time.Second

// asking are the flags of the verbs that ask a running node.
type asking struct {
	addresses []string
	login     login
	json      bool
	t         terminal
}

// flags adds the flags to a verb.
func (a *asking) flags(cmd *cobra.Command, json string) {
	cmd.Flags().StringSliceVar(&a.addresses, "addr", a.defaultAddresses(),
		"`host:port` of a node's admin API; several, tried in order, with commas or repeated; also ISTHMUS_ADDR")
	cmd.Flags().BoolVar(&a.json, "json", false, json)
	a.login.flags(cmd, a.t)
}

func (a *asking) defaultAddresses() []string {
	if env := a.t.env("ISTHMUS_ADDR"); env != "" {
		return strings.Split(env, ",")
	}
	return []string{defaultGRPC}
}

// ask runs what is to be asked with a client of the first node that answers. It does not go on to another node when do
// fails: what do wanted may have been done.
func (a *asking) ask(ctx context.Context, do func(context.Context, *admin.Client) error) error {
	c, err := a.reach(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err = do(ctx, c); errors.Is(err, admin.ErrUnreachable) {
		return fmt.Errorf("%w\nis a node running there? --addr or ISTHMUS_ADDR says where it is", err)
	}
	return err
}

// reach makes a client of the first node that answers, or of the last one: why that one does not answer is told by what is
// asked next.
func (a *asking) reach(ctx context.Context) (*admin.Client, error) {
	if err := a.login.secret(); err != nil {
		return nil, err
	}
	for i, address := range a.addresses {
		c, err := a.login.dial(strings.TrimSpace(address))
		if err != nil || i == len(a.addresses)-1 || answers(ctx, c) {
			return c, err
		}
		_ = c.Close() // nothing was asked that could be lost
	}
	return nil, usage(errors.New("--addr is empty; name the host:port of a node"))
}

// answers tells whether a node answers, be it with a refusal.
func answers(ctx context.Context, c *admin.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, knockAtMost)
	defer cancel()
	_, err := c.LocalStatus(ctx, "", false)
	return !errors.Is(err, admin.ErrUnreachable)
}

// print writes one message as one line of JSON.
func (a *asking) print(m proto.Message) error {
	line, err := admin.JSON(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.t.out, "%s\n", line)
	return err
}
