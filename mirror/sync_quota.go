package mirror

import (
	"math"
	"strconv"

	"github.com/isthmus-project/isthmus/broker"
)

// compareQuotas puts the quotas of both sides beside each other, and those that there are only notes about. An entity is a subject,
// its values are the items.
func compareQuotas(how kept, source, target []broker.Quota, subjects []noteKey) (out []sided, entities map[string][]broker.QuotaPart) {
	at := make(map[string]int)
	entities = make(map[string][]broker.QuotaPart)
	side := func(name string) *sided {
		i, known := at[name]
		if !known {
			i = len(out)
			at[name], out = i, append(out, sided{key: noteKey{kind: DriftQuota, subject: name}, kept: how})
		}
		return &out[i]
	}
	for _, q := range source {
		side(q.For()).source, entities[q.For()] = quotaItems(q), q.Entity
	}
	for _, q := range target {
		side(q.For()).target, entities[q.For()] = quotaItems(q), q.Entity
	}
	for _, key := range subjects {
		side(key.subject)
	}
	return out, entities
}

// quotaItems are the values as text that is read back exactly.
func quotaItems(q broker.Quota) map[string]string {
	items := make(map[string]string, len(q.Values))
	for name, v := range q.Values {
		items[name] = quotaItem(v)
	}
	return items
}

func quotaItem(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// quotaChange is what of one entity is set and taken away.
func quotaChange(entity []broker.QuotaPart, all []judged) broker.Quota {
	q := broker.Quota{Entity: entity, Values: make(map[string]float64)}
	for _, j := range all {
		switch j.do {
		case doSet:
			if v, err := strconv.ParseFloat(j.source.value, 64); err == nil {
				q.Values[j.name] = v
			}
		case doRemove:
			q.Values[j.name] = math.NaN()
		}
	}
	return q
}
