"""librdkafka by confluent-kafka as a program of test/clients."""
import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import admin as ka

from say import args, batches, main, number, plan, say, sending, settled, step, stopping, text

base = {"bootstrap.servers": args["bootstrap"], "client.id": "librdkafka", "topic.metadata.refresh.interval.ms": 5000}


def trouble(e):
    """librdkafka tells this of what it heals by itself, too."""
    say("error", text=f"{e.name()}: {e.str()}", fatal=e.fatal())


def producer():
    kind = args["kind"]
    conf = {**base, "linger.ms": 5, "error_cb": trouble}
    if kind in ("acks1", "acks0"):
        conf["acks"] = kind[4:]
    else:
        conf["enable.idempotence"] = True
    if kind == "transactional":
        conf["transactional.id"] = args["txid"]
    return Producer(conf)


def send(p, id, tx=0):
    def told(e, m):
        if e is not None:
            say("failed", id=id, text=f"{e.name()}: {e.str()}")
        else:
            offset = m.offset()
            say("acked", id=id, partition=m.partition(), offset=offset if offset is not None and offset >= 0 else -1, tx=tx)

    value = str(id)
    while True:
        try:
            p.produce(args["topic"], key=value, value=value, partition=id % number("partitions"), on_delivery=told)
            break
        except BufferError:
            p.poll(0.1)
    p.poll(0)


def produce():
    p = producer()
    sending()
    if args["kind"] != "transactional":
        for id in plan():
            send(p, id)
        p.flush()
        return
    p.init_transactions()
    for tx, ids in batches():
        end = "abort" if tx % 3 == 0 else "commit"
        try:
            p.begin_transaction()
            for id in ids:
                send(p, id, tx)
            p.flush()
            ended(p.abort_transaction if end == "abort" else p.commit_transaction)
        except KafkaException as e:
            if e.args[0].fatal():
                raise
            say("error", text="transaction: " + text(e))
            ended(p.abort_transaction)
            end = "abort"
        say(end, tx=tx)


def ended(call):
    """What took too long is to be called again, librdkafka says."""
    while True:
        try:
            return call()
        except KafkaException as e:
            if not e.args[0].retriable():
                raise


def consume():
    mode = args["mode"]
    conf = {**base, "group.id": args["group"], "auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.auto.offset.store": False,
            "isolation.level": "read_committed", "fetch.wait.max.ms": 500, "error_cb": trouble}
    if mode == "kip848":
        conf["group.protocol"] = "consumer"
    elif mode != "assign":
        conf.update({"session.timeout.ms": 10000, "heartbeat.interval.ms": 500,
                     "partition.assignment.strategy": "cooperative-sticky" if mode == "cooperative" else "range"})
    if mode == "static":
        conf["group.instance.id"] = args["instance"]
    c = Consumer(conf)

    def moved(event):
        def told(_, partitions):
            if partitions:
                say(event, partitions=[p.partition for p in partitions])
        return told

    if mode == "assign":
        seek = number("seek")
        c.assign([TopicPartition(args["topic"], p, seek) for p in range(number("partitions"))])
        for p in range(number("partitions")):
            say("started", partition=p, offset=seek)
    else:
        c.subscribe([args["topic"]], on_assign=moved("assigned"), on_revoke=moved("revoked"), on_lost=moved("lost"))
    while not stopping.is_set():
        read(c, mode != "assign")
    c.close()


def read(c, commit):
    ends = {}
    messages = [c.poll(0.3)]
    while messages[-1] is not None and len(messages) < 500:
        messages.append(c.poll(0))
    for m in messages[: None if messages[-1] is not None else -1]:
        if m.error() is not None:
            if m.error().code() != KafkaError._PARTITION_EOF:
                trouble(m.error())
            continue
        say("read", partition=m.partition(), offset=m.offset(), id=int(m.value()))
        ends[m.partition()] = m.offset() + 1
    if not commit or not ends:
        return
    try:
        c.commit(offsets=[TopicPartition(args["topic"], p, o) for p, o in ends.items()], asynchronous=False)
    except KafkaException as e:
        say("error", text="commit: " + text(e))
        return
    for p, o in ends.items():
        say("committed", partition=p, offset=o)


def administer():
    a = ka.AdminClient(base)
    topic = args["topic"]

    def done(futures):
        for f in futures.values():
            f.result(20)
        return "done"

    step("create topic", lambda: done(a.create_topics([ka.NewTopic(topic, 3, 3, config={"retention.ms": "3600000"})])))
    step("create it again", lambda: done(a.create_topics([ka.NewTopic(topic, 3, 3)])))
    settled("create partitions", "done", lambda: done(a.create_partitions([ka.NewPartitions(topic, 5)])))
    meta = lambda: a.list_topics(topic, timeout=20)
    step("describe cluster", lambda: f"{meta().cluster_id} {sorted(meta().brokers)}")

    def describe():
        parts = meta().topics[topic].partitions.values()
        return f"{len(parts)} partitions on {sorted({n for p in parts for n in p.replicas})}, {sum(p.leader in p.replicas for p in parts)} led by one"

    settled("describe topic", "5 partitions on [1, 2, 3], 5 led by one", describe)
    resource = lambda **kw: ka.ConfigResource(ka.ConfigResource.Type.TOPIC, topic, **kw)

    def retention():
        return list(a.describe_configs([resource()]).values())[0].result(20)["retention.ms"].value

    settled("describe config", "3600000", retention)
    settled("alter config", "done", lambda: done(a.alter_configs([resource(set_config={"retention.ms": "7200000"})])))
    settled("describe it again", "7200000", retention)
    broker = ka.ConfigResource(ka.ConfigResource.Type.BROKER, "2")
    step("describe broker config", lambda: list(a.describe_configs([broker]).values())[0].result(20)["node.id"].value)
    c = Consumer({**base, "group.id": args["group"]})
    settled("watermarks", "(0, 0)", lambda: c.get_watermark_offsets(TopicPartition(topic, 4), timeout=20))
    settled("commit", "0", lambda: c.commit(offsets=[TopicPartition(topic, 1, 0)], asynchronous=False)[0].offset)
    step("fetch offsets", lambda: c.committed([TopicPartition(topic, 1)], timeout=20)[0].offset)
    c.close()
    if hasattr(a, "list_consumer_groups"):
        settled("list groups", "True", lambda: any(g.group_id == args["group"] for g in a.list_consumer_groups().result(20).valid))
        step("describe group", lambda: str(list(a.describe_consumer_groups([args["group"]]).values())[0].result(20).state))
    else:
        settled("list groups", "True", lambda: any(g.id == args["group"] for g in a.list_groups(timeout=20)))
    if hasattr(a, "list_offsets"):
        settled("list offsets", "0", lambda: list(a.list_offsets({TopicPartition(topic, 4): ka.OffsetSpec.latest()}).values())[0].result(20).offset)
    settled("delete group", "done", lambda: done(a.delete_consumer_groups([args["group"]])))
    if hasattr(ka, "AclBinding"):
        rule = ka.AclBinding(ka.ResourceType.TOPIC, topic, ka.ResourcePatternType.LITERAL, "User:ann", "*", ka.AclOperation.READ, ka.AclPermissionType.ALLOW)
        find = ka.AclBindingFilter(ka.ResourceType.TOPIC, topic, ka.ResourcePatternType.LITERAL, "User:ann", "*", ka.AclOperation.READ, ka.AclPermissionType.ALLOW)
        step("create ACL", lambda: done(a.create_acls([rule])))
        settled("describe ACLs", "1", lambda: len(a.describe_acls(find).result(20)))
        step("delete ACLs", lambda: len(a.delete_acls([find])[find].result(20)))
    settled("delete topic", "done", lambda: done(a.delete_topics([topic])))


main(f"{confluent_kafka.version() if isinstance(confluent_kafka.version(), str) else confluent_kafka.version()[0]}, librdkafka {confluent_kafka.libversion()[0]}",
     {"produce": produce, "consume": consume, "admin": administer})
