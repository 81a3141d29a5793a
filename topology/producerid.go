package topology

import "hash/fnv"

// A producer id says who wrote a batch. Brokers accept any id of 63 bits, and allocate their own from zero upward, so
// bit 62 marks ours. Bit 63 is zero: a negative id means none.
//
// Mirror (kind 0): origin is the cluster where a client first produced the records, from is the cluster at the other
// end of the link that wrote the batch; the target is where the batch lies. The incarnation of the writer is the
// producer epoch and not in the id.
//
//	 63 62 61 60-59 58-56 55           40 39               20 19                0
//	+--+--+--+-----+-----+---------------+-------------------+-------------------+
//	| 0| 1| 0| lay | 000 |  fabric (16)  |    origin (20)    |     from (20)     |
//	+--+--+--+-----+-----+---------------+-------------------+-------------------+
//
// Of a topic that the link gives another name (lay 1), where several may become one, each under ids of its own: way is a tag of the link's
// source and the topic's name there, the high bits first.
//
//	 63 62 61 60-59 58-56 55           40 39               20 19                0
//	+--+--+--+-----+-----+---------------+-------------------+-------------------+
//	| 0| 1| 0| lay | way |  fabric (16)  |    origin (20)    |     way (20)      |
//	+--+--+--+-----+-----+---------------+-------------------+-------------------+
//
// Router client (kind 1): a producer behind a router; the salt changes with the generation of the set's home.
//
//	 63 62 61 60-59 58           43 42       33 32                    9 8       0
//	+--+--+--+-----+---------------+-----------+-----------------------+---------+
//	| 0| 1| 1| lay |  fabric (16)  | router(10)|     counter (24)      | salt (9)|
//	+--+--+--+-----+---------------+-----------+-----------------------+---------+
//
// lay is the version of the layout, 0 or 1; a later layout keeps marker, kind, version and fabric where they are. Tags are
// the FNV-1a hash (64 bits) of a name, folded by xor. They never change: they are in the logs.
const (
	markerBit = 1 << 62
	kindBit   = 1 << 61

	layoutShift = 59
	layoutMask  = 3
	layout      = 0
	// layoutNamed is that of a topic with another name.
	layoutNamed = 1

	fabricBits = 16

	spareShift        = 56
	spareMask         = 7
	mirrorFabricShift = 40
	clusterBits       = 20
	originShift       = clusterBits
	wayBits           = clusterBits + 3

	clientFabricShift = 43
	routerBits        = 10
	routerShift       = 33
	counterBits       = 24
	counterShift      = 9
	saltBits          = 9
)

// IDKind says what sort of writer a producer id belongs to.
type IDKind int

// The kinds of producer id.
const (
	// Client is anything that is not ours: a broker's own id, none (negative), or one of another fabric.
	Client IDKind = iota
	// Mirror is a link of this fabric.
	Mirror
	// RouterClient is a client behind a router of this fabric.
	RouterClient
	// Forged carries our marker and our fabric's tag, but a layout or a cluster this topology does not know: a client
	// that made up an id, a newer version's, or a cluster that was taken out of the file.
	Forged
)

// String gives the kind in lower case, as metrics and reports name it.
func (k IDKind) String() string {
	switch k {
	case Mirror:
		return "mirror"
	case RouterClient:
		return "router-client"
	case Forged:
		return "forged"
	default:
		return "client"
	}
}

// Provenance is what a producer id says. Origin and From are names of clusters and are set for the kind Mirror only: the
// origin of every other batch is the cluster it lies in. From is empty where the topic was given another name.
type Provenance struct {
	Kind         IDKind
	Origin, From string
}

// idSpace knows the tags of one fabric.
type idSpace struct {
	fabric   uint64
	clusters map[uint64]string
}

func newIDSpace(f Fabric, clusters []Cluster) *idSpace {
	s := &idSpace{fabric: tag(f.Name, fabricBits), clusters: make(map[uint64]string, len(clusters))}
	for _, c := range clusters {
		s.clusters[tag(c.Name, clusterBits)] = c.Name
	}
	return s
}

// tag folds a name's hash to some bits.
func tag(name string, bits int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name)) // a hash never fails
	var folded uint64
	for rest := h.Sum64(); rest > 0; rest >>= bits {
		folded ^= rest
	}
	return folded & low(bits)
}

// low is a mask of that many bits.
func low(bits int) uint64 { return 1<<bits - 1 }

// MirrorID is the producer id under which links from the cluster from write records that were first produced at the
// cluster origin.
func (t *Topology) MirrorID(origin, from string) int64 {
	return int64(markerBit | layout<<layoutShift | tag(t.Fabric.Name, fabricBits)<<mirrorFabricShift |
		tag(origin, clusterBits)<<originShift | tag(from, clusterBits))
}

// NamedID is the producer id under which links from the cluster from write records that were first produced at the cluster origin and lie in a
// topic there that has another name on the target. Two topics may have one id, if rarely; see SameID.
func (t *Topology) NamedID(origin, from, topic string) int64 {
	way := wayTag(from, topic)
	return int64(markerBit | layoutNamed<<layoutShift | way>>clusterBits<<spareShift | tag(t.Fabric.Name, fabricBits)<<mirrorFabricShift |
		tag(origin, clusterBits)<<originShift | way&low(clusterBits))
}

// wayTag is the tag of a topic of a cluster. No name has a zero byte in it.
func wayTag(from, topic string) uint64 { return tag(from+"\x00"+topic, wayBits) }

// SameID tells whether two topics of a cluster would be written under one id. Where they become one, their copies could not be told apart.
func SameID(from, one, other string) bool { return wayTag(from, one) == wayTag(from, other) }

// RouterClientID is the producer id a router gives to a client's producer. Only the low 24 bits of counter and the low
// 9 of salt count; the caller sees to it that they do not come round while an id is remembered.
func (t *Topology) RouterClientID(router string, counter uint32, salt uint16) int64 {
	return int64(markerBit | kindBit | layout<<layoutShift | tag(t.Fabric.Name, fabricBits)<<clientFabricShift |
		tag(router, routerBits)<<routerShift | uint64(counter)&low(counterBits)<<counterShift | uint64(salt)&low(saltBits))
}

// ClientOf is the id that a router gave to a client's producer, by the one under which a home has its batches: without the salt. It is false for ids of other kinds.
func (t *Topology) ClientOf(id int64) (client int64, ok bool) {
	if t.Provenance(id).Kind != RouterClient {
		return 0, false
	}
	return id &^ int64(low(saltBits)), true
}

// Provenance reads a producer id. It is a pure function of the id and the topology.
func (t *Topology) Provenance(id int64) Provenance {
	s := t.ids
	if s == nil || id < 0 || id&markerBit == 0 {
		return Provenance{}
	}
	bits, shift := uint64(id), mirrorFabricShift
	if bits&kindBit != 0 {
		shift = clientFabricShift
	}
	if bits>>shift&low(fabricBits) != s.fabric {
		return Provenance{}
	}
	lay := bits >> layoutShift & layoutMask
	origin, knowsOrigin := s.clusters[bits>>originShift&low(clusterBits)]
	switch {
	case lay == layoutNamed && bits&kindBit == 0 && knowsOrigin:
		return Provenance{Kind: Mirror, Origin: origin}
	case lay != layout:
		return Provenance{Kind: Forged}
	case bits&kindBit != 0:
		return Provenance{Kind: RouterClient}
	}
	from, knowsFrom := s.clusters[bits&low(clusterBits)]
	if !knowsOrigin || !knowsFrom || bits>>spareShift&spareMask != 0 {
		return Provenance{Kind: Forged}
	}
	return Provenance{Kind: Mirror, Origin: origin, From: from}
}
