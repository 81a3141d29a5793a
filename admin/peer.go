package admin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/topology"
)

// Nodes of a fabric prove to each other that they are by the keys of their gossip. A credential is of one call: it is bound to who
// asks, who is asked, the method, the request and a time, and is good once. Nothing that is sent leads back to the key.
const (
	peerName   = "isthmus-peer"   // the node that asks
	peerFor    = "isthmus-for"    // whom it asks for: for the log
	peerTime   = "isthmus-time"   // ms since 1970
	peerNonce  = "isthmus-nonce"  // random
	peerDigest = "isthmus-digest" // SHA-256 of the request
	peerMAC    = "isthmus-mac"    // HMAC-SHA256 of all these, the method and the node that is asked
)

const (
	// peerWindow is how far the time of a credential may be off. The refusal of an older one tells the time here, so that a node
	// whose clock is wrong asks again with the right one.
	peerWindow = 30 * time.Second
	// maxSkew bounds what a node believes of another one's clock.
	maxSkew = 26 * time.Hour
	// maxNonces bounds the credentials that are remembered: far more than nodes send in the window.
	maxNonces = 200_000
)

// errClock is the refusal of a credential of another time.
var errClock = errors.New("its time is not ours")

// seal is what a credential proves.
type seal struct {
	from, to, asks, method string
	at                     int64 // ms since 1970
	nonce, digest          string
}

// mac proves a seal with a key. The key itself encrypts gossip, so that what is used here is made of it.
func (s seal) mac(key []byte) []byte {
	own := hmac.New(sha256.New, key)
	own.Write([]byte("isthmus admin peer 1"))
	h := hmac.New(sha256.New, own.Sum(nil))
	for _, field := range []string{s.from, s.to, s.asks, s.method, strconv.FormatInt(s.at, 10), s.nonce, s.digest} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field)))) // so that no two lists of fields are one text
		h.Write([]byte(field))
	}
	return h.Sum(nil)
}

// sign gives the metadata that go with a call. Without a key only the name goes with it.
func (s seal) sign(keys [][]byte) metadata.MD {
	md := metadata.Pairs(peerName, s.from, peerFor, s.asks)
	if len(keys) == 0 {
		return md
	}
	var nonce [16]byte
	rand.Read(nonce[:]) //nolint:errcheck // never fails
	s.nonce = hex.EncodeToString(nonce[:])
	md.Set(peerTime, strconv.FormatInt(s.at, 10))
	md.Set(peerNonce, s.nonce)
	md.Set(peerDigest, s.digest)
	md.Set(peerMAC, hex.EncodeToString(s.mac(keys[0])))
	return md
}

// requestDigest is that of a message as both ends write it again.
func requestDigest(m proto.Message) string {
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// peerCheck checks the credentials of other nodes.
type peerCheck struct {
	self string
	keys func() [][]byte
	open bool // nodes need not prove who they are: there are neither identities nor keys
	now  func() time.Time

	mu    sync.Mutex
	seen  map[string]int64 // nonces of the window, and the times of their credentials
	swept int64            // when those of older windows were forgotten, ms since 1970
}

func newPeerCheck(self string, keys func() [][]byte, open bool, now func() time.Time) *peerCheck {
	return &peerCheck{self: self, keys: keys, open: open, now: now, seen: make(map[string]int64)}
}

// who returns the node that asks, and the digest that its request must have; empty: any. Its errors wrap ErrLogin.
func (p *peerCheck) who(md metadata.MD, method string) (caller, string, error) {
	s := seal{from: single(md, peerName), to: p.self, asks: single(md, peerFor), method: method,
		nonce: single(md, peerNonce), digest: single(md, peerDigest)}
	c := caller{name: s.asks, role: topology.Viewer, peer: s.from}
	keys := p.keys()
	if len(keys) == 0 {
		if p.open {
			return c, "", nil
		}
		return caller{}, "", fmt.Errorf("%w: node %.100q cannot prove that it is one, because the fabric has no gossip_key; give it one", ErrLogin, s.from)
	}
	mac, err := hex.DecodeString(single(md, peerMAC))
	at, err2 := strconv.ParseInt(single(md, peerTime), 10, 64)
	if err != nil || err2 != nil || len(mac) != sha256.Size || s.from == "" || len(s.nonce) != 32 || len(s.digest) != 2*sha256.Size {
		return caller{}, "", fmt.Errorf("%w: the credential of node %.100q is not whole", ErrLogin, s.from)
	}
	s.at = at
	good := false
	for _, key := range keys {
		good = hmac.Equal(mac, s.mac(key)) || good
	}
	if !good {
		return caller{}, "", fmt.Errorf("%w: node %.100q has another gossip key, or means another node than %s; give both the same key and names of their own",
			ErrLogin, s.from, p.self)
	}
	if err := p.once(s); err != nil {
		return caller{}, "", fmt.Errorf("%w: the credential of node %.100q: %w", ErrLogin, s.from, err)
	}
	return c, s.digest, nil
}

// once takes each credential of the window one time.
func (p *peerCheck) once(s seal) error {
	now := p.now().UnixMilli()
	window := peerWindow.Milliseconds()
	if s.at < now-window || s.at > now+window {
		return errClock
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, again := p.seen[s.nonce]; again {
		return errors.New("it was used before")
	}
	if len(p.seen) >= maxNonces || now-p.swept > 2*window {
		p.swept = now
		for nonce, at := range p.seen {
			if at < now-window {
				delete(p.seen, nonce)
			}
		}
	}
	if len(p.seen) >= maxNonces {
		return errors.New("there are too many of them at once; ask again in a minute")
	}
	p.seen[s.nonce] = s.at
	return nil
}

// single is the only value of a key; a second one makes it empty.
func single(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) == 1 {
		return v[0]
	}
	return ""
}
