"""kafka-python as a program of test/clients."""
import logging

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import OffsetAndMetadata

from say import args, batches, main, number, plan, say, sending, settled, step, stopping, text

logging.basicConfig(level=logging.INFO)  # to standard error: it tells no other way why it waits
base = {"bootstrap_servers": args["bootstrap"].split(","), "client_id": "kafka-python"}


def send(p, id, tx=0):
    value = str(id).encode()
    f = p.send(args["topic"], key=value, value=value, partition=id % number("partitions"))
    f.add_callback(lambda m: say("acked", id=id, partition=m.partition, offset=m.offset if m.offset is not None and args["kind"] != "acks0" else -1, tx=tx))
    f.add_errback(lambda e: say("failed", id=id, text=text(e)))


def produce():
    kind = args["kind"]
    conf = {**base, "linger_ms": 5}
    if kind in ("acks1", "acks0"):
        # Without idempotence more than one request in flight may change the order.
        conf.update(acks=int(kind[4:]), enable_idempotence=False, max_in_flight_requests_per_connection=1)
    else:
        conf.update(acks="all", enable_idempotence=True)
    if kind == "transactional":
        conf["transactional_id"] = args["txid"]
    p = KafkaProducer(**conf)
    sending()
    if kind != "transactional":
        for id in plan():
            send(p, id)
        p.flush()
        p.close()
        return
    p.init_transactions()
    for tx, ids in batches():
        p.begin_transaction()
        for id in ids:
            send(p, id, tx)
        p.flush()
        if tx % 3 == 0:
            p.abort_transaction()
        else:
            p.commit_transaction()
        say("abort" if tx % 3 == 0 else "commit", tx=tx)
    p.close()


class Moves(ConsumerRebalanceListener):
    def told(self, event, partitions):
        if partitions:
            say(event, partitions=sorted(p.partition for p in partitions))

    def on_partitions_assigned(self, assigned):
        self.told("assigned", assigned)

    def on_partitions_revoked(self, revoked):
        self.told("revoked", revoked)

    def on_partitions_lost(self, lost):
        self.told("lost", lost)


def assignors(mode):
    if mode == "cooperative":
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
        return [CooperativeStickyAssignor]
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    return [RangePartitionAssignor]


def consume():
    mode = args["mode"]
    conf = {**base, "auto_offset_reset": "earliest", "enable_auto_commit": False, "isolation_level": "read_committed", "group_id": None}
    if mode != "assign":
        conf.update(group_id=args["group"])
        if mode == "kip848":
            conf["group_protocol"] = "consumer"
        else:
            conf.update(session_timeout_ms=10000, heartbeat_interval_ms=500, partition_assignment_strategy=assignors(mode))
    if mode == "static":
        conf["group_instance_id"] = args["instance"]
    c = KafkaConsumer(**conf)
    if mode == "assign":
        all = [TopicPartition(args["topic"], p) for p in range(number("partitions"))]
        c.assign(all)
        for tp in all:
            c.seek(tp, number("seek"))
            say("started", partition=tp.partition, offset=number("seek"))
    else:
        c.subscribe([args["topic"]], listener=Moves())
    while not stopping.is_set():
        read(c, mode != "assign")
    c.close()


def offsets(o):
    return OffsetAndMetadata(o, "", -1) if len(OffsetAndMetadata._fields) == 3 else OffsetAndMetadata(o, "")


def read(c, commit):
    ends = {}
    for tp, records in c.poll(timeout_ms=300).items():
        for r in records:
            say("read", partition=r.partition, offset=r.offset, id=int(r.value))
            ends[tp] = r.offset + 1
    if not commit or not ends:
        return
    try:
        c.commit({tp: offsets(o) for tp, o in ends.items()})
    except Exception as e:
        say("error", text="commit: " + text(e))
        return
    for tp, o in ends.items():
        say("committed", partition=tp.partition, offset=o)


def administer():
    from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
    a = KafkaAdminClient(**base)
    topic = args["topic"]
    done = lambda r: "done"
    step("create topic", lambda: done(a.create_topics([NewTopic(topic, 3, 3, topic_configs={"retention.ms": "3600000"})])))
    step("create it again", lambda: done(a.create_topics([NewTopic(topic, 3, 3)])))

    def partitions():
        from kafka.admin import NewPartitions
        return done(a.create_partitions({topic: NewPartitions(5)}))

    settled("create partitions", "done", partitions)
    step("describe cluster", lambda: sorted(str(b.get("node_id", b.get("broker_id"))) for b in a.describe_cluster()["brokers"]))

    def describe():
        parts = a.describe_topics([topic])[0]["partitions"]
        get = lambda p, *names: next(p[n] for n in names if n in p)
        return f"{len(parts)} partitions, {sum(get(p, 'leader_id', 'leader') in get(p, 'replica_nodes', 'replicas') for p in parts)} led by one"

    settled("describe topic", "5 partitions, 5 led by one", describe)

    def retention():
        return "7200000" in str(a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))

    settled("describe config", "False", retention)
    settled("alter config", "done", lambda: done(a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "7200000"})])))
    settled("describe it again", "True", retention)
    c = KafkaConsumer(**base, group_id=args["group"], enable_auto_commit=False)
    tp = TopicPartition(topic, 1)
    c.assign([tp])
    settled("end offsets", "0", lambda: c.end_offsets([tp])[tp])
    settled("commit", "0", lambda: (c.commit({tp: offsets(0)}), c.committed(tp))[1])
    c.close()
    settled("list groups", "True", lambda: args["group"] in str(a.list_consumer_groups() if hasattr(a, "list_consumer_groups") else a.list_groups()))
    describe_groups = getattr(a, "describe_consumer_groups", None) or a.describe_groups
    step("describe group", lambda: "Empty" in str(describe_groups([args["group"]])))
    group_offsets = getattr(a, "list_consumer_group_offsets", None) or a.list_group_offsets
    step("fetch offsets", lambda: "offset=0" in str(group_offsets(args["group"])))
    delete_groups = getattr(a, "delete_consumer_groups", None) or a.delete_groups
    settled("delete group", "done", lambda: done(delete_groups([args["group"]])))
    rights(a, topic)
    settled("delete topic", "done", lambda: done(a.delete_topics([topic])))
    a.close()


def rights(a, topic):
    from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePattern, ResourcePatternFilter, ResourceType, ACLResourcePatternType
    rule = ACL(principal="User:ann", host="*", operation=ACLOperation.READ, permission_type=ACLPermissionType.ALLOW, resource_pattern=ResourcePattern(ResourceType.TOPIC, topic))
    find = ACLFilter(principal="User:ann", host="*", operation=ACLOperation.READ, permission_type=ACLPermissionType.ALLOW,
                     resource_pattern=ResourcePatternFilter(ResourceType.TOPIC, topic, ACLResourcePatternType.LITERAL))
    step("create ACL", lambda: len(a.create_acls([rule])["succeeded"]))
    settled("describe ACLs", "1", lambda: len(a.describe_acls(find)[0]))
    step("delete ACLs", lambda: len(a.delete_acls([find])))


main(kafka.__version__, {"produce": produce, "consume": consume, "admin": administer})
