package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/kerberos"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/topology"
)

// references reads the fields of one cluster.
type references struct {
	cluster string
	notes   *notes
}

// text is a secret that is one line of text.
func (r references) text(field string, s topology.Secret) (*fresh[string], error) {
	return newFresh(r.notes, field, func() (string, error) {
		value, err := r.resolve(field, s)
		return string(value), err
	})
}

func (r references) resolve(field string, s topology.Secret) ([]byte, error) {
	value, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %s: %w", r.cluster, field, err)
	}
	return value, nil
}

// mechanism makes the login, whose secrets are read again each time.
func (r references) mechanism(s *topology.SASL) (sasl.Mechanism, error) {
	switch s.Mechanism {
	case topology.Plain, topology.ScramSHA256, topology.ScramSHA512:
		return r.password(s)
	case topology.OAuthBearer:
		return r.bearer(s)
	case topology.AWSMSKIAM:
		return r.aws(s)
	case topology.GSSAPI:
		return r.kerberos(s)
	}
	return nil, fmt.Errorf("cluster %s: sasl.mechanism %q is none that is known here", r.cluster, s.Mechanism)
}

func (r references) password(s *topology.SASL) (sasl.Mechanism, error) {
	password, err := r.text("sasl.password", s.Password)
	if err != nil {
		return nil, err
	}
	scrammed := func(context.Context) (scram.Auth, error) {
		return scram.Auth{User: s.User, Pass: password.get()}, nil
	}
	switch s.Mechanism {
	case topology.ScramSHA256:
		return scram.Sha256(scrammed), nil
	case topology.ScramSHA512:
		return scram.Sha512(scrammed), nil
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		return plain.Auth{User: s.User, Pass: password.get()}, nil
	}), nil
}

func (r references) bearer(s *topology.SASL) (sasl.Mechanism, error) {
	if s.TokenURL != "" {
		secret, err := r.text("sasl.client_secret", s.ClientSecret)
		if err != nil {
			return nil, err
		}
		e := newTokenEndpoint(r.cluster, s, secret)
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := e.fetch(ctx)
			return oauth.Auth{Token: token}, err
		}), nil
	}
	token, err := newFresh(r.notes, "sasl.token", func() (string, error) {
		value, err := r.resolve("sasl.token", s.Token)
		if err != nil {
			return "", err
		}
		text := string(bytes.TrimSpace(value))
		if !isToken(text) {
			return "", fmt.Errorf("cluster %s: sasl.token: %s holds no token: it may have letters, digits and -._~+/= only", r.cluster, s.Token)
		}
		return text, nil
	})
	if err != nil {
		return nil, err
	}
	return oauth.Oauth(func(context.Context) (oauth.Auth, error) { return oauth.Auth{Token: token.get()}, nil }), nil
}

// aws is untested against a real service.
func (r references) aws(s *topology.SASL) (sasl.Mechanism, error) {
	access, err := r.text("sasl.access_key", s.AccessKey)
	if err != nil {
		return nil, err
	}
	secret, err := r.text("sasl.secret_key", s.SecretKey)
	if err != nil {
		return nil, err
	}
	session := func() string { return "" }
	if !s.SessionToken.IsZero() {
		token, err := r.text("sasl.session_token", s.SessionToken)
		if err != nil {
			return nil, err
		}
		session = token.get
	}
	return aws.ManagedStreamingIAM(func(context.Context) (aws.Auth, error) {
		return aws.Auth{AccessKey: access.get(), SecretKey: secret.get(), SessionToken: session(), UserAgent: "isthmus"}, nil
	}), nil
}

// kerberos is untested against a real service. Each login gets tickets of its own, so that a new keytab is used at once.
func (r references) kerberos(s *topology.SASL) (sasl.Mechanism, error) {
	keys, err := newFresh(r.notes, "sasl.keytab", func() (*keytab.Keytab, error) {
		raw, err := s.Keytab.ResolveBytes()
		if err != nil {
			return nil, fmt.Errorf("cluster %s: sasl.keytab: %w", r.cluster, err)
		}
		k := keytab.New()
		if err := unmarshalKeytab(k, raw); err != nil { // whose cause may quote the file
			return nil, fmt.Errorf("cluster %s: sasl.keytab: %s is not a keytab", r.cluster, s.Keytab)
		}
		return k, nil
	})
	if err != nil {
		return nil, err
	}
	settings, err := newFresh(r.notes, "sasl.krb5_conf", func() (*config.Config, error) {
		raw, err := r.resolve("sasl.krb5_conf", s.Krb5Conf)
		if err != nil {
			return nil, err
		}
		c, err := config.NewFromString(string(raw))
		var ignored config.UnsupportedDirective // such as include, which tells nothing that is needed
		if err != nil && !errors.As(err, &ignored) {
			return nil, fmt.Errorf("cluster %s: sasl.krb5_conf: %s: %w", r.cluster, s.Krb5Conf, err)
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return kerberos.Kerberos(func(context.Context) (kerberos.Auth, error) {
		// FAST negotiation is left out because Active Directory does not know it.
		c := client.NewWithKeytab(s.User, s.Realm, keys.get(), settings.get(), client.DisablePAFXFAST(true))
		return kerberos.Auth{Client: c, Service: s.Service}, nil
	}), nil
}

// unmarshalKeytab reads a keytab; the library trusts the lengths in it.
func unmarshalKeytab(k *keytab.Keytab, raw []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read keytab: %v", p)
		}
	}()
	return k.Unmarshal(raw)
}
