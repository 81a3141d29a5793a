package bench

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// hurryRate are requests a second, over so many connections, for so long.
	hurryRate  = 10_000
	hurryConns = 20
	hurryFor   = 5 * time.Second
)

// frame is a request as it is sent; the correlation id is at byte 8.
func frame(m kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, m, 0)
}

func metadataRequest() []byte {
	m := kmsg.NewPtrMetadataRequest()
	m.Version = 7
	name := kmsg.NewMetadataRequestTopic()
	name.Topic = kmsg.StringPtr("small")
	m.Topics = append(m.Topics, name)
	return frame(m)
}

// fetchRequest asks for nothing more than whether there is something.
func fetchRequest() []byte {
	m := kmsg.NewPtrFetchRequest()
	m.Version, m.MaxWaitMillis, m.MinBytes, m.MaxBytes, m.SessionEpoch = 11, 0, 0, 1<<20, -1
	topic, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, p.CurrentLeaderEpoch, p.PartitionMaxBytes = "small", -1, 1<<20
	topic.Partitions = append(topic.Partitions, p)
	m.Topics = append(m.Topics, topic)
	return frame(m)
}

// exchange sends a request and reads its answer.
func exchange(c net.Conn, ask []byte) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write(ask); err != nil {
		return err
	}
	return skipAnswer(c)
}

func skipAnswer(r io.Reader) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if _, err := io.CopyN(io.Discard, r, n); err != nil {
		return fmt.Errorf("an answer of %d bytes: %w", n, err)
	}
	return nil
}

// hurry asks at a steady rate and returns how long after it was due each answer came, in order of length.
func hurry(t *testing.T, address string) (all []time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var conns sync.WaitGroup
	const every = time.Second * hurryConns / hurryRate
	begin := time.Now().Add(200 * time.Millisecond)
	for i := range hurryConns {
		conns.Go(func() {
			seen, err := hurryOne(address, begin.Add(every*time.Duration(i)/hurryConns), every)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, seen...)
		})
	}
	conns.Wait()
	if len(all) == 0 {
		t.Fatalf("%s answered nothing", address)
	}
	slices.Sort(all)
	return all
}

// hurryOne is one connection of hurry. It does not wait for an answer before it asks again.
func hurryOne(address string, begin time.Time, every time.Duration) (seen []time.Duration, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := exchange(c, metadataRequest()); err != nil { // what is set up for the first request is not measured
		return nil, err
	}
	if err := c.SetDeadline(begin.Add(2*hurryFor + time.Minute)); err != nil {
		return nil, err
	}
	n := int(hurryFor / every)
	wrote := make(chan error, 1)
	go func() {
		ask := fetchRequest()
		for i := range n {
			time.Sleep(time.Until(begin.Add(every * time.Duration(i))))
			binary.BigEndian.PutUint32(ask[8:], uint32(i))
			if _, err := c.Write(ask); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	in := bufio.NewReader(c)
	for i := range n {
		if err = skipAnswer(in); err != nil {
			break
		}
		seen = append(seen, time.Since(begin.Add(every*time.Duration(i))))
	}
	if wErr := <-wrote; err == nil {
		err = wErr
	}
	return seen, err
}
