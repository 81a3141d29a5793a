package rewrite

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/shape"
	"github.com/isthmus-project/isthmus/router/apis"
)

// changed are the letters that are written over here.
const changed = apis.Address | apis.Cluster | apis.Epoch

// Requests reports whether requests of a row are rewritten. Others pass as they are.
func (v *View) Requests(r apis.Row) bool { return v.rewrites(r, r.Request) }

// Answers reports whether answers of a row are rewritten.
func (v *View) Answers(r apis.Row) bool { return v.rewrites(r, r.Answer) }

// rewrites reports whether messages of a row that have the letters are rewritten.
func (v *View) rewrites(r apis.Row, of apis.Letters) bool {
	return r.Does == apis.Patch && of&changed != 0 || v.offsets != nil && (r.Does == apis.Patch || r.Does == apis.Forward) && of&apis.Offset != 0
}

// shapes is shared: what it has learned is the same for all.
var shapes shape.Shapes

// Elements checks that body, from behind the header on, has the shape of its request or answer, and counts the elements of its arrays, each of
// which takes about [shape.ElementBytes] of memory when it is decoded. Nothing else here may be given a body that it refuses.
func Elements(key, version int16, answer bool, body []byte) (int, error) {
	of, what := shapes.Request, "request"
	if answer {
		of, what = shapes.Answer, "answer"
	}
	s, err := of(key, version)
	if err != nil {
		return 0, err
	}
	n, ok := s.Fits(body)
	if !ok {
		return 0, fmt.Errorf("read %s v%d: %d bytes have not the shape of its %s", kmsg.NameForKey(key), version, len(body), what)
	}
	return n, nil
}

// Request appends to dst what the home is asked where a client asks body.
func (v *View) Request(dst []byte, key, version int16, body []byte) ([]byte, error) {
	m := kmsg.RequestForKey(key)
	m.SetVersion(version)
	if err := m.ReadFrom(body); err != nil {
		return dst, fmt.Errorf("read %s v%d: %w", kmsg.NameForKey(key), version, err)
	}
	if !v.request(m) {
		return dst, fmt.Errorf("rewrite %s v%d: nothing is known of its request", kmsg.NameForKey(key), version)
	}
	return m.AppendTo(dst), nil
}

// Answer appends to dst what a client is answered where the home answers body. edit, where it is not nil, has the last word.
func (v *View) Answer(dst []byte, key, version int16, body []byte, edit func(kmsg.Response)) ([]byte, error) {
	m := kmsg.ResponseForKey(key)
	m.SetVersion(version)
	if err := m.ReadFrom(body); err != nil {
		return dst, fmt.Errorf("read the answer to %s v%d: %w", kmsg.NameForKey(key), version, err)
	}
	if !v.answer(m) && edit == nil {
		return dst, fmt.Errorf("rewrite %s v%d: nothing is known of its answer", kmsg.NameForKey(key), version)
	}
	if edit != nil {
		edit(m)
	}
	return m.AppendTo(dst), nil
}

// request rewrites a request; false means that there is no rule for it.
func (v *View) request(m kmsg.Request) bool {
	switch m := m.(type) {
	case *kmsg.ListOffsetsRequest:
		listOffsets(m)
	case *kmsg.OffsetCommitRequest:
		v.offsetCommit(m)
	case *kmsg.TxnOffsetCommitRequest:
		v.txnOffsetCommit(m)
	case *kmsg.DeleteRecordsRequest:
		v.deleteRecords(m)
	case *kmsg.CreateTopicsRequest:
		v.createTopics(m)
	case *kmsg.CreatePartitionsRequest:
		v.createPartitions(m)
	case *kmsg.AlterPartitionAssignmentsRequest:
		v.alterAssignments(m)
	case *kmsg.UnregisterBrokerRequest:
		m.BrokerID = v.real(m.BrokerID)
	case *kmsg.DescribeConfigsRequest:
		for i := range m.Resources {
			v.nameBack(m.Resources[i].ResourceType, &m.Resources[i].ResourceName)
		}
	case *kmsg.AlterConfigsRequest:
		for i := range m.Resources {
			v.nameBack(m.Resources[i].ResourceType, &m.Resources[i].ResourceName)
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for i := range m.Resources {
			v.nameBack(m.Resources[i].ResourceType, &m.Resources[i].ResourceName)
		}
	default:
		return false
	}
	return true
}

// answer rewrites an answer; false means that there is no rule for it.
func (v *View) answer(m kmsg.Response) bool {
	switch m := m.(type) {
	case *kmsg.MetadataResponse:
		v.metadata(m)
	case *kmsg.DescribeClusterResponse:
		v.describeCluster(m)
	case *kmsg.FindCoordinatorResponse:
		v.findCoordinator(m)
	case *kmsg.ListOffsetsResponse:
		v.listedOffsets(m)
	case *kmsg.OffsetFetchResponse:
		v.fetchedOffsets(m)
	case *kmsg.DeleteRecordsResponse:
		v.deletedRecords(m)
	case *kmsg.DescribeProducersResponse:
		v.describedProducers(m)
	case *kmsg.ListPartitionReassignmentsResponse:
		v.reassignments(m)
	case *kmsg.DescribeConfigsResponse:
		for i := range m.Resources {
			v.name(m.Resources[i].ResourceType, &m.Resources[i].ResourceName)
		}
	case *kmsg.AlterConfigsResponse:
		for i := range m.Resources {
			v.name(m.Resources[i].ResourceType, &m.Resources[i].ResourceName)
		}
	case *kmsg.IncrementalAlterConfigsResponse:
		for i := range m.Resources {
			v.name(m.Resources[i].ResourceType, &m.Resources[i].ResourceName)
		}
	case *kmsg.ListConfigResourcesResponse:
		for i := range m.ConfigResources {
			v.name(kmsg.ConfigResourceType(m.ConfigResources[i].Type), &m.ConfigResources[i].Name)
		}
	default:
		return false
	}
	return true
}
