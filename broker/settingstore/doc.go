// Package settingstore keeps the settings of a fabric in a compacted topic of a Kafka cluster, where they outlive all nodes.
package settingstore
