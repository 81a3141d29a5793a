package mirror

import "github.com/prometheus/client_golang/prometheus"

// auditMetrics are those of the audit, by link and topic: isthmus_mirror_audited_records_total,
// isthmus_mirror_audited_bytes_total, isthmus_mirror_audit_mismatch_total. By link: isthmus_mirror_audit_age_seconds.
type auditMetrics struct{ audited, auditedBytes, mismatches *prometheus.CounterVec }

func newAuditMetrics(vec func(name, help string, labels ...string) *prometheus.CounterVec) auditMetrics {
	return auditMetrics{
		audited:      vec("audited_records_total", "Records that were read back from the target and compared.", "link", "topic"),
		auditedBytes: vec("audited_bytes_total", "Wire bytes of batches that were read back from the target and compared.", "link", "topic"),
		mismatches:   vec("audit_mismatch_total", "Stretches of batches of which the target does not hold what was written.", "link", "topic"),
	}
}

// topicAudit are the counters of one topic, which begin at zero.
type topicAudit struct{ records, bytes, mismatches prometheus.Counter }

func (a auditMetrics) topic(link, topic string) topicAudit {
	return topicAudit{a.audited.WithLabelValues(link, topic), a.auditedBytes.WithLabelValues(link, topic), a.mismatches.WithLabelValues(link, topic)}
}

var descAuditAge = desc("audit_age_seconds", "For how long the oldest batches that are to be read back from the target wait for it; 0 when none do.", "link")

// audited counts a stretch that was read back.
func (m *linkMetrics) audited(p *pump, s AuditSum, mismatch bool) {
	a := m.topic(p.id.Topic).audit
	a.records.Add(float64(s.Records))
	a.bytes.Add(float64(s.Bytes))
	if mismatch {
		a.mismatches.Inc()
	}
}

// copiedBytes is how many bytes the target has acknowledged in all.
func (m *linkMetrics) copiedBytes() (n int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, t := range m.topics {
		n += t.sumBytes.Load()
	}
	return n
}
