package generation

import "maps"

// Log is what the records of one control cluster say of one router: for each round of each set an acceptor of Paxos, whose state follows from the
// order of the records alone. The zero value is that of no records.
type Log struct {
	sets  map[string]*setLog
	plans map[string]Record // by switch
}

// setLog is what a log has of one set.
type setLog struct {
	rounds  map[int64]*acceptor
	decided map[int64]Value
	bounds  bounds
}

// acceptor is one round in one log.
type acceptor struct {
	promised Ballot           // the highest of all prepares
	accepts  map[Ballot]Value // those that count
}

func (l *Log) set(name string) *setLog {
	if l.sets == nil {
		l.sets = map[string]*setLog{}
	}
	s := l.sets[name]
	if s == nil {
		s = &setLog{rounds: map[int64]*acceptor{}, decided: map[int64]Value{}}
		l.sets[name] = s
	}
	return s
}

// Apply takes the next record in offset order.
//
// A prepare is a promise unless a higher one stands before it. An accept counts unless a higher prepare stands before it. Of what is decided the first
// record counts, since there are no two that differ. Chunks of cuts are not kept here: they are the same in all logs.
func (l *Log) Apply(r Record) {
	switch r.Kind {
	case kindPrepare, kindAccept:
		s := l.set(r.Set)
		if _, over := s.decided[r.Round]; over {
			return
		}
		a := s.rounds[r.Round]
		if a == nil {
			a = &acceptor{accepts: map[Ballot]Value{}}
			s.rounds[r.Round] = a
		}
		if higher := r.Ballot.Compare(a.promised); r.Kind == kindPrepare && higher > 0 {
			a.promised = *r.Ballot
		} else if r.Kind == kindAccept && higher >= 0 {
			a.accepts[*r.Ballot] = *r.Value
		}
	case kindDecided:
		s := l.set(r.Set)
		if _, twice := s.decided[r.Round]; !twice {
			s.decided[r.Round] = *r.Value
		}
		delete(s.rounds, r.Round)
	case kindBound:
		l.set(r.Set).bounds.add(r.ID, *r.Bound)
	case kindPlan:
		if l.plans == nil {
			l.plans = map[string]Record{}
		}
		if o, there := l.plans[r.Plan.Switch]; !there || r.Plan.ahead(o.Plan) {
			l.plans[r.Plan.Switch] = r
		}
	}
}

// forget is told that a bound was taken back, by the id of its record.
func (l *Log) forget(id string) {
	for s := range maps.Values(l.sets) {
		s.bounds.forget(id)
	}
}

// highest is the accept of the highest ballot that counts; a zero ballot for none.
func (a *acceptor) highest() (b Ballot, v Value) {
	for o, value := range a.accepts {
		if o.Compare(b) > 0 {
			b, v = o, value
		}
	}
	return b, v
}
