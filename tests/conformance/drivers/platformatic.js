// @platformatic/kafka, whose streams push what is read.
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const zlib = require('node:zlib')
const { Admin, Consumer, Producer, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } = require('@platformatic/kafka')
const { bootstrap, serve, text, Feed, Unsupported } = require('./lines.js')

const base = { clientId: 'conformance', bootstrapBrokers: [bootstrap], autocreateTopics: false }
// Its package keeps the file to itself.
const { version } = JSON.parse(fs.readFileSync(path.join(path.dirname(require.resolve('@platformatic/kafka')), '../package.json')))
const made = []
const members = {}
const producers = {}
const transactions = {}

function administer() {
  if (made.length === 0) made.push(new Admin({ ...base }))
  return made[0]
}

const dataOf = (value) => (value === null ? undefined : Buffer.from(value))

const messageOf = (topic) => ({ key, value, headers = [], timestamp, partition = 0 }) => ({
  topic,
  partition,
  key: dataOf(key),
  value: dataOf(value),
  // A map takes the same name twice, as long as it is not the same object.
  headers: new Map(headers.map(([name, of]) => [Buffer.from(name), dataOf(of)])),
  ...(timestamp ? { timestamp: BigInt(timestamp) } : {})
})

const recordOf = ({ partition, offset, key, value, headers, timestamp }) => ({
  partition,
  offset: Number(offset),
  key: text(key),
  value: text(value),
  headers: [...headers].map(([name, of]) => [text(name), text(of)]),
  timestamp: Number(timestamp)
})

async function run(member, groupId, topic, committed, how, group = {}) {
  const consumer = new Consumer({ ...base, groupId, isolationLevel: committed ? 1 : 0, autocommit: false, maxWaitTime: 200, ...group })
  const feed = new Feed()
  members[member] = { consumer, feed, topic, messages: [] }
  const stream = await consumer.consume({ topics: [topic], ...how })
  members[member].stream = stream
  stream.on('error', (error) => { feed.error = error })
  ;(async () => {
    for await (const message of stream) {
      if (await feed.push(recordOf(message))) members[member]?.messages.push(message)
    }
  })().catch((error) => { feed.error = error })
}

const verbs = {
  about: () => ({ client: `@platformatic/kafka ${version}` }),

  async create_topic({ topic, partitions, config }) {
    const configs = Object.entries(config).map(([name, value]) => ({ name, value }))
    await administer().createTopics({ topics: [topic], partitions, replicas: 1, configs })
  },

  topics: async () => ({ topics: await administer().listTopics() }),

  async describe_topic({ topic }) {
    const told = await administer().metadata({ topics: [topic], forceUpdate: true })
    return { partitions: told.topics.get(topic).partitionsCount }
  },

  async describe_config({ topic }) {
    const told = await administer().describeConfigs({ resources: [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: topic }] })
    return { config: Object.fromEntries(told[0].configs.map((entry) => [entry.name, entry.value])) }
  },

  async alter_config({ topic, config }) {
    const configs = Object.entries(config).map(([name, value]) => (
      { name, value, configOperation: IncrementalAlterConfigOperationTypes.SET }))
    await administer().incrementalAlterConfigs({
      resources: [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configs }] })
  },

  async add_partitions({ topic, count }) {
    await administer().createPartitions({ topics: [{ name: topic, count, assignments: null }] })
  },

  async delete_records({ topic, partition, before }) {
    await administer().deleteRecords({ topics: [{ name: topic, partitions: [{ partition, offset: BigInt(before) }] }] })
  },

  async delete_topic({ topic }) {
    await administer().deleteTopics({ topics: [topic] })
  },

  async produce({ topic, records, codec, acks }) {
    // Of Node.js itself, from 22.15 on.
    if (codec === 'zstd' && !zlib.zstdCompressSync) throw new Unsupported()
    const producer = new Producer({ ...base, acks: acks === 'all' ? -1 : Number(acks), compression: codec, idempotent: false, retries: 2 })
    try {
      const { offsets = [] } = await producer.send({ messages: records.map(messageOf(topic)) })
      return { offsets: offsets.length > 0 && acks !== '0' ? records.map((_, at) => Number(offsets[0].offset) + at) : [] }
    } finally {
      await producer.close()
    }
  },

  async offset_at({ topic, timestamp }) {
    const consumer = new Consumer({ ...base, groupId: 'offset-at' })
    try {
      const told = await consumer.listOffsets({ topics: [topic], timestamp: BigInt(timestamp) })
      return { offset: Number(told.get(topic)[0]) }
    } finally {
      await consumer.close(true)
    }
  },

  async open({ member, topic, start, reset, committed }) {
    // What to fall back to is asked only where nothing is committed; of an offset out of range it tells.
    if (reset === 'earliest' || reset === 'latest') throw new Unsupported()
    const how = typeof start === 'number' ? { mode: 'manual', offsets: [{ topic, partition: 0, offset: BigInt(start) }] } : { mode: start }
    await run(member, `conformance-${process.pid}-${member}`, topic, committed, how)
  },

  async join({ member, group, topic, protocol }) {
    const how = protocol === 'consumer' ? { groupProtocol: 'consumer' } : { heartbeatInterval: 500, sessionTimeout: 10000 }
    await run(member, group, topic, true, { mode: 'committed', fallbackMode: 'earliest' }, how)
  },

  async poll({ member, count, seconds }) {
    const { consumer, feed, topic } = members[member]
    const told = await feed.poll({ count, seconds })
    const assigned = (consumer.assignments || []).filter((of) => of.topic === topic).flatMap((of) => of.partitions)
    return { ...told, assigned }
  },

  async commit({ member }) {
    const { consumer, feed, topic } = members[member]
    await consumer.commit({ offsets: [...feed.polled].map(([partition, offset]) => (
      { topic, partition, offset: BigInt(offset), leaderEpoch: -1 })) })
  },

  async leave({ member }) {
    const { consumer, feed, stream } = members[member]
    feed.close()
    await stream.close()
    await consumer.close(true)
    delete members[member]
  },

  async txn_open({ id }) {
    producers[id] = new Producer({ ...base, transactionalId: id, idempotent: true })
  },

  async txn_begin({ id }) {
    transactions[id] = await producers[id].beginTransaction()
  },

  async txn_send({ id, topic, records }) {
    await transactions[id].send({ messages: records.map(messageOf(topic)) })
  },

  async txn_offsets({ id, member }) {
    const { consumer, messages } = members[member]
    await transactions[id].addConsumer(consumer)
    const last = new Map(messages.map((message) => [message.partition, message]))
    for (const message of last.values()) await transactions[id].addOffset(message)
  },

  txn_commit: ({ id }) => transactions[id].commit(),
  txn_abort: ({ id }) => transactions[id].abort(),
  txn_close: ({ id }) => producers[id].close(true)
}

const codeOf = (error) => {
  if (error.apiCode > 0) return error.apiCode
  for (const inner of [...(error.errors || []), ...(error.cause ? [error.cause] : [])]) {
    const code = codeOf(inner)
    if (code !== null) return code
  }
  return null
}

serve(verbs, codeOf)
