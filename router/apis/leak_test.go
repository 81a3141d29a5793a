package apis

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// tells are names of kmsg's fields, and the letter of what they have in them.
var tells = map[string]Letters{
	"NodeID": Address, "LeaderID": Address, "Leader": Address, "ControllerID": Address, "PreferredReadReplica": Address, "BrokerID": Address, "Host": Address, "Port": Address,
	"Replicas": Address, "ISR": Address, "OfflineReplicas": Address, "AddingReplicas": Address, "RemovingReplicas": Address, "ELR": Address, "EligibleLeaderReplicas": Address, "LastKnownELR": Address,
	"ClusterID": Cluster, "TopicID": Topic,
	"LeaderEpoch": Epoch, "CurrentLeaderEpoch": Epoch, "LastFetchedEpoch": Epoch,
	"ProducerID": Producer, "ProducerEpoch": Producer, "ProducerIDFilters": Producer, "LastSequence": Producer,
	"Offset": Offset, "BaseOffset": Offset, "FetchOffset": Offset, "HighWatermark": Offset, "LastStableOffset": Offset, "LogStartOffset": Offset, "FirstOffset": Offset, "LowWatermark": Offset,
	"OldStyleOffsets": Offset, "CurrentTxnStartOffset": Offset,
	"Generation": Group,
}

// told are fields whose name says something else than what they are.
func told(key kmsg.Key, name string) bool {
	switch key {
	case kmsg.DescribeClientQuotas, kmsg.AlterClientQuotas, kmsg.DescribeGroups: // hosts of clients
		return name == "Host"
	case kmsg.JoinGroup: // a member
		return name == "LeaderID"
	case kmsg.DescribeACLs, kmsg.CreateACLs, kmsg.DeleteACLs:
		return name == "Host"
	}
	return false
}

// message is a request or an answer of kmsg's.
type message interface {
	SetVersion(int16)
	AppendTo([]byte) []byte
}

// fields calls fn for each field that a version has on the wire: a change of it changes the bytes.
func fields(m message, fn func(path, name string)) {
	populate(reflect.ValueOf(m).Elem())
	before := m.AppendTo(nil)
	var visit func(v reflect.Value, path string)
	visit = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			t := v.Type().Field(i)
			if !t.IsExported() || t.Type == reflect.TypeFor[kmsg.Tags]() || t.Name == "Version" {
				continue
			}
			f, at := v.Field(i), path+"."+t.Name
			was := reflect.ValueOf(f.Interface())
			f.Set(other(f))
			changed := !bytes.Equal(before, m.AppendTo(nil))
			f.Set(was)
			if !changed {
				continue
			}
			fn(at, t.Name)
			if f.Kind() == reflect.Pointer {
				f = f.Elem()
			}
			if f.Kind() == reflect.Slice && f.Len() > 0 {
				f = f.Index(0)
			}
			if f.Kind() == reflect.Struct {
				visit(f, at)
			}
		}
	}
	visit(reflect.ValueOf(m).Elem(), "")
}

// populate gives every array one element and every pointer something.
func populate(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if !v.Type().Field(i).IsExported() || f.Type() == reflect.TypeFor[kmsg.Tags]() {
			continue
		}
		if f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			f = f.Elem()
		}
		if f.Kind() == reflect.Slice && f.Type().Elem().Kind() != reflect.Uint8 {
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			f = f.Index(0)
		}
		if f.Kind() == reflect.Struct {
			populate(f)
		}
	}
}

// other is a value of v's type that is not v.
func other(v reflect.Value) reflect.Value {
	o := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Bool:
		o.SetBool(!v.Bool())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		o.SetInt(v.Int() + 1)
	case reflect.Uint8, reflect.Uint16:
		o.SetUint(v.Uint() + 1)
	case reflect.Float64:
		o.SetFloat(v.Float() + 1)
	case reflect.String:
		o.SetString(v.String() + "x")
	case reflect.Array:
		o.Set(v)
		o.Index(0).SetUint(o.Index(0).Uint() + 1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			o.SetBytes([]byte("x"))
			break
		}
		o.Set(reflect.Append(v, v.Index(0)))
	case reflect.Struct:
		o.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type().Field(i).Type != reflect.TypeFor[kmsg.Tags]() {
				o.Field(i).Set(other(v.Field(i)))
			}
		}
	}
	return o
}

// TestTable_NoLeak looks into every message of every version that clients may use for what belongs to one cluster, by the names that kmsg
// gives it: the row must have its letter, and a row that only forwards must have none that clients may not see.
func TestTable_NoLeak(t *testing.T) {
	var seen []string
	for _, row := range table {
		if row.Does == Hide {
			continue
		}
		if row.Does == Forward && (row.Request|row.Answer)&^asAtHome != 0 {
			t.Errorf("%s v%d is forwarded with %v in it", row.Key.Name(), row.From, (row.Request|row.Answer)&^asAtHome)
		}
		if row.Does == Patch && (row.Request|row.Answer)&(Address|Cluster|Epoch|Producer) == 0 {
			t.Errorf("%s v%d has nothing to patch", row.Key.Name(), row.From)
		}
		for v := row.From; v <= row.To; v++ {
			req := kmsg.RequestForKey(int16(row.Key))
			resp := req.ResponseKind()
			req.SetVersion(v)
			resp.SetVersion(v)
			check := func(what string, has Letters) func(path, name string) {
				return func(path, name string) {
					if l := tells[name]; l&^has != 0 && !told(row.Key, name) {
						t.Errorf("%s v%d: %s%s is %v, the row has only %q", row.Key.Name(), v, what, path, l, has)
					}
					seen = append(seen, name)
				}
			}
			fields(req, check("request", row.Request))
			fields(resp, check("answer", row.Answer))
		}
	}
	for _, name := range []string{"LeaderEpoch", "Replicas", "ClusterID", "ProducerID", "PreferredReadReplica", "NodeID"} {
		if !slices.Contains(seen, name) {
			t.Errorf("no message has the field %s any more: has kmsg renamed it?", name)
		}
	}
}

// TestTable_Exact turns it round: letters that a row has without a field of that name are none, but for those in records and in texts.
func TestTable_Exact(t *testing.T) {
	inside := map[string]Letters{ // not in fields of their own
		"Produce request": Producer, "Fetch answer": Epoch, "DescribeConfigs request": Address, "DescribeConfigs answer": Address, "AlterConfigs request": Address, "AlterConfigs answer": Address,
		"IncrementalAlterConfigs request": Address, "IncrementalAlterConfigs answer": Address, "ListConfigResources answer": Address,
		"ApiVersions answer": Version,
	}
	for _, row := range table {
		if row.Does == Hide {
			continue
		}
		var request, answer Letters
		for v := row.From; v <= row.To; v++ {
			req := kmsg.RequestForKey(int16(row.Key))
			resp := req.ResponseKind()
			req.SetVersion(v)
			resp.SetVersion(v)
			fields(req, func(_, name string) { request |= tells[name] })
			fields(resp, func(_, name string) { answer |= tells[name] })
		}
		for what, l := range map[string][2]Letters{"request": {row.Request, request}, "answer": {row.Answer, answer}} {
			name := fmt.Sprintf("%s %s", row.Key.Name(), what)
			if more := l[0] &^ l[1] &^ inside[name] &^ Group; more != 0 {
				t.Errorf("%s v%d-%d: nothing of %v is in it", name, row.From, row.To, more)
			}
		}
	}
}
