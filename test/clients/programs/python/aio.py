"""aiokafka as a program of test/clients."""
import asyncio

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from say import args, batches, main, number, plan, say, sending, settled, step, stopping, text

base = {"bootstrap_servers": args["bootstrap"], "client_id": "aiokafka", "metadata_max_age_ms": 5000}


async def send(p, id, tx=0):
    value = str(id).encode()
    f = await p.send(args["topic"], key=value, value=value, partition=id % number("partitions"))

    def told(f):
        if f.exception() is not None:
            say("failed", id=id, text=text(f.exception()))
        else:
            m = f.result()
            say("acked", id=id, partition=id % number("partitions"), offset=m.offset if m is not None and args["kind"] != "acks0" else -1, tx=tx)

    f.add_done_callback(told)


async def produce():
    kind = args["kind"]
    conf = {**base, "linger_ms": 5}
    if kind in ("acks1", "acks0"):
        conf["acks"] = int(kind[4:])
    else:
        conf["enable_idempotence"] = True
    if kind == "transactional":
        conf["transactional_id"] = args["txid"]
    p = AIOKafkaProducer(**conf)
    await p.start()
    sending()
    if kind != "transactional":
        for id in plan():
            await send(p, id)
            await asyncio.sleep(0)
        await p.flush()
    else:
        for tx, ids in batches():
            await p.begin_transaction()
            for id in ids:
                await send(p, id, tx)
            await p.flush()
            if tx % 3 == 0:
                await p.abort_transaction()
            else:
                await p.commit_transaction()
            say("abort" if tx % 3 == 0 else "commit", tx=tx)
    await p.stop()


class Moves(ConsumerRebalanceListener):
    def told(self, event, partitions):
        if partitions:
            say(event, partitions=sorted(p.partition for p in partitions))

    async def on_partitions_assigned(self, assigned):
        self.told("assigned", assigned)

    async def on_partitions_revoked(self, revoked):
        async with reading:  # what was read is committed first
            self.told("revoked", revoked)


reading = asyncio.Lock()


async def consume():
    mode = args["mode"]
    conf = {**base, "auto_offset_reset": "earliest", "enable_auto_commit": False, "isolation_level": "read_committed"}
    if mode != "assign":
        conf.update(group_id=args["group"], session_timeout_ms=10000, heartbeat_interval_ms=500, partition_assignment_strategy=[RangePartitionAssignor])
    if mode == "static":
        conf["group_instance_id"] = args["instance"]
    c = AIOKafkaConsumer(**conf)
    if mode == "assign":
        c.assign([TopicPartition(args["topic"], p) for p in range(number("partitions"))])
    else:
        c.subscribe([args["topic"]], listener=Moves())
    await c.start()
    if mode == "assign":
        for tp in c.assignment():
            c.seek(tp, number("seek"))
            say("started", partition=tp.partition, offset=number("seek"))
    while not stopping.is_set():
        # Outside the lock: behind the beginning of a rebalance getmany waits for its end, and that for on_partitions_revoked.
        got = await c.getmany(timeout_ms=300)
        async with reading:  # nobody runs between the two
            await read(c, got, mode != "assign")
        await asyncio.sleep(0)  # whoever waits for the lock
    await c.stop()


async def read(c, got, commit):
    ends = {}
    for tp, records in got.items():
        for r in records:
            say("read", partition=r.partition, offset=r.offset, id=int(r.value))
            ends[tp] = r.offset + 1
    if not commit or not ends:
        return
    try:
        await c.commit(ends)
    except Exception as e:
        say("error", text="commit: " + text(e))
        return
    for tp, o in ends.items():
        say("committed", partition=tp.partition, offset=o)


async def administer():
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    a = AIOKafkaAdminClient(**base)
    await a.start()
    topic = args["topic"]

    async def steps(name, want, attempt):
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(settled, name, want, lambda: asyncio.run_coroutine_threadsafe(attempt(), loop).result(30))

    async def codes(r):
        r = await r
        return [e[1] for e in (getattr(r, "topic_errors", None) or getattr(r, "topic_error_codes", None))]

    await steps("create topic", None, lambda: codes(a.create_topics([NewTopic(topic, 3, 3, topic_configs={"retention.ms": "3600000"})])))
    await steps("create it again", None, lambda: codes(a.create_topics([NewTopic(topic, 3, 3)])))
    await steps("create partitions", "[0]", lambda: codes(a.create_partitions({topic: NewPartitions(5)})))

    async def cluster():
        c = await a.describe_cluster()
        return c["cluster_id"] + " " + str(sorted(b["node_id"] for b in c["brokers"]))

    async def describe():
        parts = (await a.describe_topics([topic]))[0]["partitions"]
        return f"{len(parts)} partitions, {sum(p['leader'] in p['replicas'] for p in parts)} led by one"

    async def retention():
        return "7200000" in str(await a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))

    async def alter():
        await a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "7200000"})])
        return "done"

    await steps("describe cluster", None, cluster)
    await steps("describe topic", "5 partitions, 5 led by one", describe)
    await steps("describe config", "False", retention)
    await steps("alter config", "done", alter)
    await steps("describe it again", "True", retention)
    await groups(a, steps, topic)
    await steps("delete topic", "[0]", lambda: codes(a.delete_topics([topic])))
    await a.close()


async def groups(a, steps, topic):
    c = AIOKafkaConsumer(**base, group_id=args["group"], enable_auto_commit=False)
    tp = TopicPartition(topic, 1)
    c.assign([tp])
    await c.start()

    async def commit():
        await c.commit({tp: 0})
        return await c.committed(tp)

    async def listed():
        return any(g[0] == args["group"] for g in await a.list_consumer_groups())

    async def described():
        return "Empty" in str(await a.describe_consumer_groups([args["group"]]))

    async def positions():
        return (await a.list_consumer_group_offsets(args["group"]))[tp].offset

    await steps("commit", "0", commit)
    await steps("list groups", "True", listed)
    await steps("describe group", None, described)
    await steps("fetch offsets", None, positions)
    await c.stop()


main(aiokafka.__version__, {"produce": lambda: asyncio.run(produce()), "consume": lambda: asyncio.run(consume()), "admin": lambda: asyncio.run(administer())})
