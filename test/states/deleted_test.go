package states

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
)

// A topic that is gone from the source stays on the target, for ever.
func TestDeleted_IsKept(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		if err := s.Clusters["eu"].DeleteTopic(topic); err != nil {
			t.Fatal(err)
		}
		s.becomes(mirror.StateWaiting, mirror.CauseDeleted, "not on eu")
		time.Sleep(20 * time.Minute)
		s.holds(topic, words("a", 5)...)
		s.ledger()
		s.goesOn()
	})
}

// By policy it is deleted there too, when its time of grace is over, which neither a restart nor a doubtful answer begins anew or cuts short.
func TestDeleted_IsFollowed(t *testing.T) {
	play(t, "deleted = \"follow\"\ndeleted_after = \"5m\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		if err := s.Clusters["eu"].DeleteTopic(topic); err != nil {
			t.Fatal(err)
		}
		s.becomes(mirror.StateWaiting, mirror.CauseDeleted)
		time.Sleep(3 * time.Minute)
		s.again("n2")
		time.Sleep(time.Minute)
		s.holds(topic, words("a", 5)...)
		denied := s.Clusters["eu"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
		time.Sleep(5 * time.Minute)
		s.holds(topic, words("a", 5)...)
		s.ledger()
		denied.Remove()
		s.until(15*time.Second, "the target's topic is deleted", func() (bool, string) { return s.Clusters["us"].TopicInfo(topic) == nil, s.said() })
		s.until(time.Second, "the ledger says so", func() (bool, string) {
			all, err := s.node.Set.Ledger("")
			return err == nil && len(all) == 1, s.said()
		})
		s.ledger("deleted 0-4 5 follow")
		s.goesOn()
		if err := s.Clusters["eu"].CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		s.write(topic, words("b", 3)...)
		s.holds(topic, words("b", 3)...)
		s.again("n3")
		s.write(topic, "c")
		s.holds(topic, append(words("b", 3), "c")...)
		s.ledger("deleted 0-4 5 follow")
	})
}

// What is back before its time is over stays, and its time begins anew when it goes again.
func TestDeleted_ComesBack(t *testing.T) {
	play(t, "deleted = \"follow\"\ndeleted_after = \"5m\"\nrecreated = \"new-incarnation\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		for range 3 {
			if err := s.Clusters["eu"].DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			s.becomes(mirror.StateWaiting, mirror.CauseDeleted)
			time.Sleep(4 * time.Minute)
			if err := s.Clusters["eu"].CreateTopic(topic, 1, nil); err != nil {
				t.Fatal(err)
			}
			s.until(time.Minute, "it is copied again", func() (bool, string) { return s.pump().State == mirror.StateRunning, s.said() })
			time.Sleep(time.Minute)
		}
		s.holds(topic, words("a", 5)...)
	})
}

// What this link has not copied is not deleted: a topic that had records before, and one that another link brings.
func TestDeleted_NotWhatIsNotOurs(t *testing.T) {
	play(t, "deleted = \"follow\"\ndeleted_after = \"5m\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		s.writeTo("us", topic, "mine")
		if err := s.Clusters["eu"].DeleteTopic(topic); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Minute)
		s.holds(topic, append(words("a", 5), "mine")...)
		s.ledger()
	})
}

// A topic that the target does not let us delete is not in the ledger as deleted, until it is. Somebody may die at any moment of it.
func TestDeleted_LedgerIsHonest(t *testing.T) {
	for name, failing := range map[string]kfake.Fault{
		"before":    {Keys: []kmsg.Key{kmsg.DeleteTopics}, Topic: topic, Err: kerr.TopicDeletionDisabled, Count: -1},
		"afterward": {Keys: []kmsg.Key{kmsg.Produce}, Topic: "__isthmus.ledger", Err: kerr.ClusterAuthorizationFailed, Count: -1},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, "deleted = \"follow\"\ndeleted_after = \"5m\"", func(s *stage) {
				s.write(topic, words("a", 5)...)
				s.holds(topic, words("a", 5)...)
				fault := s.Clusters["us"].Fault(failing)
				if err := s.Clusters["eu"].DeleteTopic(topic); err != nil {
					t.Fatal(err)
				}
				time.Sleep(6 * time.Minute)
				s.ledger() // it is there, or nobody could say that it is not
				if there := s.Clusters["us"].TopicInfo(topic) != nil; there != (name == "before") {
					t.Fatalf("the target's topic is there: %v", there)
				}
				s.node.Kill()
				fault.Remove()
				if name == "afterward" { // as a client that asks for it does
					if err := s.Clusters["us"].CreateTopic(topic, 1, nil); err != nil {
						t.Fatal(err)
					}
				}
				s.start("n2")
				s.until(30*time.Second, "the ledger says so", func() (bool, string) {
					all, err := s.node.Set.Ledger("")
					return err == nil && len(all) == 1, s.said()
				})
				s.ledger("deleted 0-4 5 follow")
				if there := s.Clusters["us"].TopicInfo(topic) != nil; there != (name == "afterward") {
					t.Errorf("the target's topic is there: %v", there)
				}
				time.Sleep(time.Minute)
				s.ledger("deleted 0-4 5 follow")
			})
		})
	}
}

// What somebody else deleted on the target is not in the ledger as deleted by the policy.
func TestDeleted_BySomebodyElse(t *testing.T) {
	play(t, "deleted = \"follow\"\ndeleted_after = \"5m\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		for _, c := range []string{"eu", "us"} {
			if err := s.Clusters[c].DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			s.becomes(mirror.StateWaiting, mirror.CauseDeleted)
		}
		time.Sleep(10 * time.Minute)
		s.ledger()
	})
}

// A topic that is deleted twice, with as much in it, is in the ledger twice; and what was forgotten in part says nothing less of it.
func TestDeleted_Twice(t *testing.T) {
	play(t, "deleted = \"follow\"\ndeleted_after = \"1m\"", func(s *stage) {
		var want []string
		for range 2 {
			s.write(topic, words("a", 5)...)
			s.holds(topic, words("a", 5)...)
			var asked atomic.Bool
			seen := s.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DeleteTopics}, Count: -1, When: func(kmsg.Request) bool { asked.Store(true); return false }})
			fault := s.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "__isthmus.checkpoints", Err: kerr.ClusterAuthorizationFailed, Count: -1,
				When: func(kmsg.Request) bool { return asked.Load() }})
			if err := s.Clusters["eu"].DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute) // its map is forgotten, its places are not
			want = append(want, "deleted 0-4 5 follow")
			s.ledger(want...)
			s.node.Kill()
			fault.Remove()
			seen.Remove()
			s.start("n2")
			time.Sleep(time.Minute)
			s.ledger(want...)
			if err := s.Clusters["eu"].CreateTopic(topic, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
