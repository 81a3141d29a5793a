package checker

// Log is the records of one cluster, in offset order within a partition.
type Log struct {
	Cluster string
	Records []Record
}

// Produced is what a producer at a cluster knows of one record, see Sources.Produced.
type Produced struct {
	Cluster string
	Record  Record
	Outcome Outcome
}

// Truncation is that a source lost the log of a life from an offset on, see Sources.Truncated.
type Truncation struct {
	Cluster, Topic  string
	Partition, Life int32
	From            int64
}

// Remaking is that a topic was made anew so often, see Sources.Remade.
type Remaking struct {
	Cluster, Topic string
	Life           int32
}

// Input is a whole history, for Check.
type Input struct {
	Config   Config
	Sources  []Log
	Produced []Produced
	// Truncated are the sources' own losses.
	Truncated []Truncation
	// Remade are topics that were made anew.
	Remade []Remaking
	Ledger []Range
	// Positions are those of consumer groups, see Target.Position.
	Positions []Position
	// Hops are logs of clusters on the way, see Target.Hop.
	Hops []Log
	// Apart are logs whose records came there and to the target on ways of their own, see Target.At.
	Apart []Log
	// Target is the target's log and Reread a later read of it; Reread needs
	// Config.Reread.
	Target, Reread []Record
}

// Check judges a history that fits in slices. The error is about the input.
func Check(in Input) (Report, error) {
	src := NewSources()
	for _, l := range in.Sources {
		for _, r := range l.Records {
			if err := src.Add(l.Cluster, r); err != nil {
				return Report{}, err
			}
		}
	}
	for _, p := range in.Produced {
		if err := src.Produced(p.Cluster, p.Record, p.Outcome); err != nil {
			return Report{}, err
		}
	}
	for _, c := range in.Truncated {
		src.Truncated(c.Cluster, c.Topic, c.Partition, c.Life, c.From)
	}
	for _, m := range in.Remade {
		src.Remade(m.Cluster, m.Topic, m.Life)
	}
	t := src.Target(in.Config)
	for _, r := range in.Ledger {
		if err := t.Ledger(r); err != nil {
			return Report{}, err
		}
	}
	for _, p := range in.Positions {
		if err := t.Position(p); err != nil {
			return Report{}, err
		}
	}
	for _, l := range in.Hops {
		for _, r := range l.Records {
			t.Hop(l.Cluster, r)
		}
	}
	for _, l := range in.Apart {
		for _, r := range l.Records {
			t.At(l.Cluster, r, true)
		}
	}
	for _, r := range in.Target {
		if err := t.Add(r); err != nil {
			return Report{}, err
		}
	}
	for _, r := range in.Reread {
		if err := t.Reread(r); err != nil {
			return Report{}, err
		}
	}
	return t.Report(), nil
}
