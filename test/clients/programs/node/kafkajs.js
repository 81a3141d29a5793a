// kafkajs as a program of test/clients: see package oracle for what it is told and what it tells.
'use strict'
const { Kafka, ConfigResourceTypes, AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes, logLevel } = require('kafkajs')

const args = Object.fromEntries(process.argv.slice(2).map(a => [a.slice(0, a.indexOf('=')), a.slice(a.indexOf('=') + 1)]))
const number = key => parseInt(args[key] || '0', 10)
const say = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
const text = e => `${e.name}: ${e.message}`
const kafka = new Kafka({ clientId: 'kafkajs', brokers: args.bootstrap.split(','), logLevel: logLevel.ERROR })
const topic = args.topic

let stop
const stopped = new Promise(resolve => { stop = resolve })
let stopping = false
process.stdin.resume()
process.stdin.on('end', () => { stopping = true; stop() })
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

async function send (producer, first, n, tx) {
  const begun = Date.now(); const rate = number('rate'); const size = rate ? Math.max(1, Math.floor(rate / 50)) : 100
  for (let from = first; from < first + n && !stopping; from += size) {
    const byPartition = new Map()
    for (let id = from; id < Math.min(from + size, first + n); id++) {
      const partition = id % number('partitions')
      if (!byPartition.has(partition)) byPartition.set(partition, [])
      byPartition.get(partition).push(id)
    }
    const messages = [...byPartition].flatMap(([partition, ids]) => ids.map(id => ({ key: String(id), value: String(id), partition })))
    const acks = args.kind === 'acks1' ? 1 : args.kind === 'acks0' ? 0 : -1
    try {
      const told = await producer.send({ topic, acks, messages })
      for (const [partition, ids] of byPartition) {
        const t = (told || []).find(t => t.partition === partition)
        ids.forEach((id, i) => say('acked', { id, partition, offset: t && acks !== 0 ? Number(t.baseOffset) + i : -1, tx }))
      }
    } catch (e) {
      for (const ids of byPartition.values()) ids.forEach(id => say('failed', { id, text: text(e) }))
    }
    if (rate) await pause(Math.max(0, begun + (from + size - first) * 1000 / rate - Date.now()))
  }
}

async function produce () {
  const transactional = args.kind === 'transactional'
  const idempotent = transactional || args.kind === 'idempotent'
  const first = number('from'); const n = number('records'); const batch = number('batch')
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, ...(transactional ? { transactionalId: args.txid } : {}) })
  await producer.connect()
  say('sending', { id: first, to: first + n - 1 })
  if (!transactional) {
    await send(producer, first, n, 0)
  } else {
    for (let tx = 1; (tx - 1) * batch < n && !stopping; tx++) {
      const t = await producer.transaction()
      const begin = first + (tx - 1) * batch
      await send(t, begin, Math.min(batch, first + n - begin), tx)
      if (tx % 3 === 0) await t.abort(); else await t.commit()
      say(tx % 3 === 0 ? 'abort' : 'commit', { tx })
    }
  }
  await producer.disconnect()
}

async function consume () {
  const consumer = kafka.consumer({ groupId: args.group, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 300, readUncommitted: false })
  consumer.on(consumer.events.GROUP_JOIN, e => {
    const partitions = (e.payload.memberAssignment || {})[topic] || []
    if (partitions.length) say('assigned', { partitions })
  })
  let mine = []
  consumer.on(consumer.events.GROUP_JOIN, e => { mine = (e.payload.memberAssignment || {})[topic] || [] })
  consumer.on(consumer.events.REBALANCING, () => { if (mine.length) say('revoked', { partitions: mine }); mine = [] })
  consumer.on(consumer.events.CRASH, e => say('error', { text: text(e.payload.error), fatal: !e.payload.restart }))
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isStale, isRunning }) => {
      if (isStale() || !isRunning()) return
      for (const m of batch.messages) say('read', { partition: batch.partition, offset: Number(m.offset), id: Number(m.value.toString()) })
      const next = Number(batch.messages[batch.messages.length - 1].offset) + 1
      await consumer.commitOffsets([{ topic, partition: batch.partition, offset: String(next) }])
      say('committed', { partition: batch.partition, offset: next })
      resolveOffset(String(next - 1)) // a seek would be done when the partition comes back after it was lost
      await heartbeat()
    }
  })
  await stopped
  await consumer.disconnect()
}

async function settled (name, want, attempt) {
  let result
  for (const end = Date.now() + 10000; ; await pause(100)) {
    try { result = String(await attempt()) } catch (e) { result = 'error: ' + text(e) }
    if (want === undefined || result === want || Date.now() > end) break
  }
  say('step', { name, result: result.replaceAll(topic, 'TOPIC') })
}
const step = (name, attempt) => settled(name, undefined, attempt)

async function administer () {
  const a = kafka.admin()
  await a.connect()
  await step('create topic', () => a.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: 3, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] }))
  await step('create it again', () => a.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: 3 }] }))
  await settled('create partitions', 'undefined', () => a.createPartitions({ topicPartitions: [{ topic, count: 5 }] }))
  await settled('list topics', 'true', async () => (await a.listTopics()).includes(topic))
  await step('describe cluster', async () => { const c = await a.describeCluster(); return c.clusterId + ' ' + c.brokers.map(b => b.nodeId).sort() })
  await settled('describe topic', '5 partitions, 5 led by one', async () => {
    const parts = (await a.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions
    return `${parts.length} partitions, ${parts.filter(p => p.replicas.includes(p.leader)).length} led by one`
  })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const retention = async () => (await a.describeConfigs({ resources: [resource] })).resources[0].configEntries.find(e => e.configName === 'retention.ms').configValue
  await settled('describe config', '3600000', retention)
  await step('alter config', async () => (await a.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] })).resources[0].errorCode)
  await settled('describe it again', '7200000', retention)
  await settled('list offsets', '5', async () => (await a.fetchTopicOffsets(topic)).length)
  await settled('alter offsets', 'undefined', () => a.setOffsets({ groupId: args.group, topic, partitions: [{ partition: 1, offset: '0' }] }))
  await settled('list groups', 'true', async () => (await a.listGroups()).groups.some(g => g.groupId === args.group))
  await step('describe group', async () => (await a.describeGroups([args.group])).groups[0].state)
  await step('fetch offsets', async () => (await a.fetchOffsets({ groupId: args.group, topics: [topic] }))[0].partitions.find(p => p.partition === 1).offset)
  await settled('delete group', '0', async () => (await a.deleteGroups([args.group]))[0].errorCode)
  const rule = { resourceType: AclResourceTypes.TOPIC, resourceName: topic, resourcePatternType: ResourcePatternTypes.LITERAL, principal: 'User:ann', host: '*', operation: AclOperationTypes.READ, permissionType: AclPermissionTypes.ALLOW }
  await step('create ACL', () => a.createAcls({ acl: [rule] }))
  await settled('describe ACLs', '1', async () => (await a.describeAcls(rule)).resources.length)
  await step('delete ACLs', async () => (await a.deleteAcls({ filters: [rule] })).filterResponses[0].matchingAcls.length)
  await settled('delete topic', 'undefined', () => a.deleteTopics({ topics: [topic] }))
  await a.disconnect()
}

async function main () {
  say('ready', { version: require('kafkajs/package.json').version })
  const role = { produce, consume, admin: administer }[args.role]
  if (!role) throw new Error('no role ' + args.role)
  await role()
  say('done')
}

main().then(() => process.stdout.write('', () => process.exit(0)), e => {
  say('error', { text: text(e), fatal: true })
  process.stdout.write('', () => process.exit(1))
})
