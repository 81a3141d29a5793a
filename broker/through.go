package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What a router needs of a cluster: who its brokers are, what each of them speaks, and ways to them for clients of its own.

// VersionRange is the versions of a request that a broker speaks, both ends in it.
type VersionRange struct{ Min, Max int16 }

// Brokers asks the cluster who its brokers are, never a cache. No topic is in the answer, however many there are.
func (c *Cluster) Brokers(ctx context.Context) (Metadata, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // null would be all of them
	return c.metadata(ctx, *req)
}

// Versions asks a broker that Brokers or Metadata has told of what it speaks, by key of the request.
func (c *Cluster) Versions(ctx context.Context, id int32) (map[int16]VersionRange, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, leaderPatience, errSilent)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "isthmus", "1"
	what := fmt.Sprintf("ask for the versions of broker %d", id)
	resp, err := askOf[*kmsg.ApiVersionsResponse](ctx, c.client.Broker(int(id)), req)
	if err == nil {
		err = codeError(resp.ErrorCode)
	}
	if err == nil && len(resp.ApiKeys) == 0 {
		err = protocolErrorf("it names none")
	}
	if err != nil {
		return nil, c.failed(ctx, what, err)
	}
	out := make(map[int16]VersionRange, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		out[k.ApiKey] = VersionRange{k.MinVersion, k.MaxVersion}
	}
	return out, nil
}

// Anonymous reports that nobody logs in at this cluster, so that whoever comes to it has the rights that we have.
func (c *Cluster) Anonymous() bool { return c.profile.SASL == nil && !c.profile.clientCert }

// DialThrough connects to a broker for somebody else, who logs in by himself: through TLS if the cluster has it, but without our login and
// without our certificate, whose rights are not his. Where a login without TLS would be refused to us, it is to him.
func (c *Cluster) DialThrough(ctx context.Context, b Broker) (net.Conn, error) {
	p, address := c.profile, b.address()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.connect(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to broker %d of %s: %w", b.ID, p.Name, err)
	}
	if p.TLS == nil {
		if p.SASL != nil {
			err = p.mayLogIn(conn, address)
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
	cfg := p.TLS().Clone()
	cfg.Certificates = nil
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	if cfg.ServerName == "" {
		cfg.ServerName = b.Host
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one that tells
		return nil, fmt.Errorf("connect to broker %d of %s: %w", b.ID, p.Name, err)
	}
	return secure, nil
}
