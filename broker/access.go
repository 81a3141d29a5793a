package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/topology"
)

// AccessError is why a cluster does not let us in as it is configured, why we do not trust it, or which right we do not have there.
// To Classify it is [Fatal], except that a missing right is [Pause], and what a broker that just stopped would look like is [Retry].
type AccessError struct {
	Cluster string
	Address string // of the broker; empty where the client library does not tell
	Field   string // of the cluster in the topology file: tls.ca, sasl.password and the like
	Reason  string // what is wrong
	Remedy  string // what to do
	Err     error  // what was seen; [ErrAuthentication] is in it for all of SASL
}

// Error names the cluster, the field, what is wrong and what to do. It holds no secret.
func (e *AccessError) Error() string {
	return fmt.Sprintf("cluster %s: %s: %s; %s (%v)", e.Cluster, e.Field, e.Reason, e.Remedy, e.Err)
}

// Unwrap returns what was seen.
func (e *AccessError) Unwrap() error { return e.Err }

// unsure reports that what was seen is also what a broker that stops looks like.
func (e *AccessError) unsure() bool {
	return hungUp(e.Err) || errors.Is(e.Err, context.DeadlineExceeded)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isAccess returns the access error inside err, if there is one.
func isAccess(err error) (*AccessError, bool) {
	var e *AccessError
	return e, errors.As(err, &e)
}

// handshake is what explains the failure of one TLS handshake.
type handshake struct {
	cluster, address string
	cfg              *tls.Config
	asked            bool // the broker asked for a client certificate
}

func (h *handshake) wrong(field, reason, remedy string, err error) error {
	return &AccessError{Cluster: h.cluster, Address: h.address, Field: field, Reason: reason, Remedy: remedy, Err: err}
}

// explain turns an error of TLS, during the handshake or after it, into one that says what to do; other errors stay as they are.
func (h *handshake) explain(err error) error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		header    tls.RecordHeaderError
	)
	if _, known := isAccess(err); known {
		return err
	}
	alert, alerted := remoteAlert(err)
	switch {
	case alerted:
		return h.explainAlert(alert, err)
	case errors.As(err, &authority):
		if h.cfg.RootCAs == nil {
			return h.wrong("tls.ca", "the certificate of "+h.address+" is signed by no authority that this system trusts",
				`add ca = "file:PATH" with the certificate of the authority that signs the brokers' certificates`, err)
		}
		return h.wrong("tls.ca", "the certificate of "+h.address+" is signed by none of the authorities in ca",
			"put the certificate of the authority that signs the brokers' certificates there", err)
	case errors.As(err, &host):
		return h.wrong("tls.server_name", "the certificate of "+h.address+" is for "+names(host.Certificate)+", not for "+h.cfg.ServerName,
			"write a name that is in the certificate as server_name, or give the brokers certificates with the names they advertise", err)
	case errors.As(err, &invalid):
		return h.explainInvalid(invalid, err)
	case errors.As(err, &header):
		return h.wrong("tls", "what answers at "+h.address+" does not speak TLS",
			"use the port of the TLS listener, or take tls out if this cluster has none", err)
	case hungUp(err):
		return h.wrong("tls", h.address+" hung up during the TLS handshake, as a listener without TLS does",
			"use the port of the TLS listener, or take tls out if this cluster has none", err)
	case errors.Is(err, context.DeadlineExceeded):
		return h.wrong("tls", h.address+" does not finish the TLS handshake, and a listener without TLS may be as silent",
			"use the port of the TLS listener, or take tls out if this cluster has none; else see whether the broker is overloaded", err)
	}
	return fmt.Errorf("shake hands by TLS with %s of cluster %s: %w", h.address, h.cluster, err)
}

// explainInvalid is about a certificate of the broker that we do not take.
func (h *handshake) explainInvalid(invalid x509.CertificateInvalidError, err error) error {
	now, cert := time.Now(), invalid.Cert
	switch {
	case invalid.Reason != x509.Expired || cert == nil:
		return h.wrong("tls.ca", "the certificate of "+h.address+" cannot be used", "renew the broker's certificate, or correct ca", err)
	case now.Before(cert.NotBefore):
		return h.wrong("tls", "the certificate of "+h.address+" is not valid before "+cert.NotBefore.UTC().Format(time.RFC3339),
			"wait until then, or set the clock of this machine or of the one that made the certificate", err)
	}
	return h.wrong("tls", "the certificate of "+h.address+" expired at "+cert.NotAfter.UTC().Format(time.RFC3339),
		"renew it at the broker; nothing has to change here if the same authority signs the new one", err)
}

// The alerts of TLS that mean something for us (RFC 8446, 6.2).
const (
	alertHandshakeFailure = 40
	alertExpired          = 45
	alertUnknownCA        = 48
	alertVersion          = 70
	alertUnrecognizedName = 112
)

// explainAlert is about what the broker does not take of ours.
func (h *handshake) explainAlert(alert uint8, err error) error {
	own := h.leaf()
	now := time.Now()
	switch {
	case alert == alertVersion:
		return h.wrong("tls", h.address+" speaks neither TLS 1.2 nor 1.3", "update the broker, or enable TLS 1.2 there", err)
	case alert == alertUnrecognizedName:
		return h.wrong("tls.server_name", h.address+" knows no server "+h.cfg.ServerName, "write a name it knows as server_name", err)
	case !h.asked:
		return h.wrong("tls", h.address+" refuses the TLS connection", "compare the listener's protocols and ciphers with TLS 1.2 and 1.3; the broker's log says more", err)
	case own == nil:
		return h.wrong("tls.cert", h.address+" asks for a client certificate and this cluster has none", `add cert = "file:PATH" and key = "file:PATH"`, err)
	case now.Before(own.NotBefore):
		return h.wrong("tls.cert", h.address+" refuses our client certificate: it is not valid before "+own.NotBefore.UTC().Format(time.RFC3339),
			"wait until then, or set the clock of the machine that made it", err)
	case now.After(own.NotAfter), alert == alertExpired:
		return h.wrong("tls.cert", h.address+" refuses our client certificate: it is valid until "+own.NotAfter.UTC().Format(time.RFC3339),
			"renew it; the new one is used by the next connection", err)
	case alert == alertUnknownCA:
		return h.wrong("tls.cert", h.address+" does not know the authority that signed our client certificate ("+own.Issuer.String()+")",
			"take a certificate of the brokers' authority, or add ours to the broker's truststore", err)
	}
	return h.wrong("tls.cert", h.address+" refuses our client certificate (signed by "+own.Issuer.String()+")",
		"take a certificate of the brokers' authority, or add ours to the broker's truststore; the broker's log says more", err)
}

// leaf is the client certificate that was offered, or nil.
func (h *handshake) leaf() *x509.Certificate {
	if len(h.cfg.Certificates) == 0 || len(h.cfg.Certificates[0].Certificate) == 0 {
		return nil
	}
	if own := h.cfg.Certificates[0].Leaf; own != nil {
		return own
	}
	own, err := x509.ParseCertificate(h.cfg.Certificates[0].Certificate[0])
	if err != nil {
		return nil
	}
	return own
}

// remoteAlert is the number of an alert that the other side sent. crypto/tls does not export the type.
func remoteAlert(err error) (uint8, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

// names are those a certificate is for.
func names(c *x509.Certificate) string {
	if c == nil {
		return "another name"
	}
	all := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	switch {
	case len(all) == 0:
		return "no name at all"
	case len(all) > 5:
		all = append(all[:5], "others")
	}
	return strings.Join(all, ", ")
}

// refusedLogin is what a broker said to a login; nil if err is not about that. offered is what it would take, where that is known.
func (p Profile) refusedLogin(address string, offered []string, err error) error {
	if _, known := isAccess(err); known || p.SASL == nil {
		return err
	}
	at := address
	if at == "" {
		at = "a broker"
	}
	e := &AccessError{Cluster: p.Name, Address: address, Err: fmt.Errorf("%w: mechanism %s: %w", ErrAuthentication, p.SASL.Name(), err)}
	switch {
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		e.Field, e.Reason, e.Remedy = "sasl.mechanism", at+" does not offer "+p.SASL.Name(), "write a mechanism that is enabled on this listener"
		if len(offered) > 0 {
			e.Reason += ", only " + offers(offered)
		}
	case errors.Is(err, kerr.IllegalSaslState):
		e.Field, e.Reason, e.Remedy = "sasl", at+" takes no login", "use the port of the SASL listener, or take sasl out"
	default:
		e.Field, e.Reason = loginField(p.SASL), at+" refuses the login by "+p.SASL.Name()
		e.Remedy = loginRemedy(p.SASL)
	}
	return e
}

// maxOffers is how many mechanisms of a broker are named; there are not as many.
const maxOffers = 10

// offers names mechanisms as a broker does, who may say anything.
func offers(offered []string) string {
	names := make([]string, 0, maxOffers+1)
	for _, name := range offered[:min(len(offered), maxOffers)] {
		names = append(names, fmt.Sprintf("%.50q", name))
	}
	if len(offered) > maxOffers {
		names = append(names, "others")
	}
	return strings.Join(names, ", ")
}

// clipped is an error in the words of a broker, who may say anything.
type clipped struct{ error }

// Error is what the broker said, on one line of bounded length.
func (e clipped) Error() string {
	quoted := fmt.Sprintf("%.300q", e.error.Error())
	return quoted[1 : len(quoted)-1]
}

// Unwrap returns the whole error.
func (e clipped) Unwrap() error { return e.error }

// explainClient does for errors of the client library what our own connections do at once: its dialer and mechanism are ours, what a
// broker answers to a login is not.
func (p Profile) explainClient(err error) error {
	if a, known := isAccess(err); known {
		return a
	}
	var first *kgo.ErrFirstReadEOF
	if p.SASL == nil && errors.As(err, &first) {
		return &AccessError{
			Cluster: p.Name, Field: "sasl", Reason: "a broker hung up at our first request, as a listener does that wants TLS or SASL",
			Remedy: "add sasl (or tls), or use the port of a listener that wants none; it passes if the broker was only stopping", Err: err,
		}
	}
	for _, login := range []error{kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState} {
		if errors.Is(err, login) {
			return p.refusedLogin("", nil, clipped{err})
		}
	}
	return err
}

// denied names the right that an answer says is missing; other errors stay as they are. It is [Pause] to Classify.
func (p Profile) denied(err error, right, resource string) error {
	if _, known := isAccess(err); known || !forbidden(err) {
		return err
	}
	field := "sasl"
	switch {
	case p.SASL != nil && p.SASL.Name() == topology.OAuthBearer:
		field = "sasl.token"
	case p.SASL != nil && p.SASL.Name() == topology.AWSMSKIAM:
		field = "sasl.access_key"
	case p.SASL != nil:
		field = "sasl.user"
	case p.clientCert:
		field = "tls.cert"
	}
	return &AccessError{
		Cluster: p.Name, Field: field, Err: err,
		Reason: "this user has no right " + right + " on " + resource, Remedy: "allow it with an ACL, or log in as another",
	}
}

// errSpeaksTLS is what a listener that expects TLS answers to anything else: an alert.
var errSpeaksTLS = fmt.Errorf("%w: it is an alert of TLS", ErrProtocol)

// wantsTLS is the error of a cluster without tls whose broker speaks it.
func (p Profile) wantsTLS(address string) error {
	return &AccessError{
		Cluster: p.Name, Address: address, Field: "tls", Err: errSpeaksTLS, Reason: address + " speaks TLS and this cluster has no tls",
		Remedy: `add tls = { ca = "file:PATH" }, or use the port of the listener without TLS`,
	}
}

// tlsAlert is the first byte of an alert, which as the length of an answer would be more than any.
const tlsAlert = 21

// dialClient is dial for the client library, which does not tell what the first answer was.
func (p Profile) dialClient(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.dial(ctx, network, address)
	if err != nil || p.TLS != nil {
		return conn, err
	}
	return &plainConn{Conn: conn, told: p.wantsTLS(address)}, nil
}

// plainConn is a connection without TLS that looks at the first byte it reads.
type plainConn struct {
	net.Conn
	told  error
	begun bool // only one goroutine reads
}

// Read reads, and recognizes a listener that speaks TLS.
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.begun {
		c.begun = true
		if b[0] == tlsAlert {
			return 0, c.told
		}
	}
	return n, err
}
