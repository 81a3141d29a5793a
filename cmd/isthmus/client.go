package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin"
)

// Where a node listens when its file and its flags say nothing.
const (
	defaultHTTP = "127.0.0.1:7070"
	defaultGRPC = "127.0.0.1:7071"
)

// asking are the flags of the verbs that ask a running node.
type asking struct {
	address string
	json    bool
	t       terminal
}

// flags adds the flags to a verb.
func (a *asking) flags(cmd *cobra.Command, json string) {
	cmd.Flags().StringVar(&a.address, "addr", cmp.Or(a.t.env("ISTHMUS_ADDR"), defaultGRPC), "`host:port` of the node's admin API; also ISTHMUS_ADDR")
	cmd.Flags().BoolVar(&a.json, "json", false, json)
}

// ask runs what is to be asked with a client of the node.
func (a *asking) ask(ctx context.Context, do func(context.Context, *admin.Client) error) error {
	c, err := admin.Dial(a.address)
	if err != nil {
		return usage(err)
	}
	defer c.Close()
	if err = do(ctx, c); errors.Is(err, admin.ErrUnreachable) {
		return fmt.Errorf("%w\nis a node running there? --addr or ISTHMUS_ADDR says where it is", err)
	}
	return err
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
