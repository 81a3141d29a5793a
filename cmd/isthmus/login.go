package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/topology"
)

// login are the flags that tell a node who asks, and how to know the node.
type login struct {
	admin.Login
	token string // where it is
}

// flags adds the flags to a verb.
func (l *login) flags(cmd *cobra.Command, t terminal) {
	token := ""
	if file := t.env("ISTHMUS_TOKEN_FILE"); file != "" {
		token = "file:" + file
	}
	f := cmd.Flags()
	f.BoolVar(&l.TLS, "tls", false, "the node has a certificate of an authority that this machine trusts; --ca and --cert imply it")
	f.StringVar(&l.CA, "ca", t.env("ISTHMUS_CA"), "`file` with the authorities of the node's certificate; also ISTHMUS_CA")
	f.StringVar(&l.Cert, "cert", t.env("ISTHMUS_CERT"), "`file` with your certificate; also ISTHMUS_CERT")
	f.StringVar(&l.Key, "cert-key", t.env("ISTHMUS_CERT_KEY"), "`file` with the key of your certificate; also ISTHMUS_CERT_KEY")
	f.StringVar(&l.ServerName, "server-name", "", "the `name` in the node's certificate; default the host of --addr")
	f.StringVar(&l.token, "token", token, "`reference` to your token, env:NAME or file:PATH; also ISTHMUS_TOKEN_FILE, a path")
	f.BoolVar(&l.Insecure, "insecure", false, "send the token even where it can be read on the way")
}

// secret reads the token. It is read once, so that all nodes that are tried get the same one.
func (l *login) secret() error {
	if l.token == "" {
		return nil
	}
	ref, err := topology.ParseSecret(l.token)
	if err != nil {
		return usage(fmt.Errorf("--token: %w", err))
	}
	text, err := ref.Resolve()
	if err != nil {
		return usage(fmt.Errorf("--token: %w", err))
	}
	l.Token = string(text)
	return nil
}

// dial makes a client of the node at an address.
func (l *login) dial(address string) (*admin.Client, error) {
	opts, err := l.Options(address)
	if err != nil {
		return nil, usage(err)
	}
	c, err := admin.Dial(address, opts...)
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}
