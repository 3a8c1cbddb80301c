// KafkaJS: whoever reads is in a group, and what is read is pushed.
'use strict'

const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = require('kafkajs')
const { bootstrap, serve, text, Feed, Unsupported } = require('./lines.js')

const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.WARN, logCreator: () => ({ log }) => console.error(JSON.stringify(log)) })
const admin = kafka.admin()
let connected = null
const members = {}
const producers = {}
const transactions = {}

async function administer() {
  connected ||= admin.connect()
  await connected
  return admin
}

const messageOf = ({ key, value, headers = [], timestamp, partition = 0 }) => {
  const told = {}
  for (const [name, of] of headers) told[name] = name in told ? [].concat(told[name], of) : of
  return { key, value, partition, headers: told, ...(timestamp ? { timestamp: `${timestamp}` } : {}) }
}

const recordOf = (partition, { offset, key, value, headers, timestamp }) => ({
  partition,
  offset: Number(offset),
  key: text(key),
  value: text(value),
  headers: Object.entries(headers).flatMap(([name, of]) => [].concat(of).map((one) => [name, text(one)])),
  timestamp: Number(timestamp)
})

async function run(member, groupId, topic, committed, start, reset) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500, readUncommitted: !committed,
    maxWaitTimeInMs: 200, rebalanceTimeout: 20000 })
  const feed = new Feed()
  members[member] = { consumer, feed, topic }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    feed.drop()
    feed.assigned = payload.memberAssignment[topic] || []
  })
  consumer.on(consumer.events.REBALANCING, () => { feed.assigned = []; feed.drop() })
  consumer.on(consumer.events.CRASH, ({ payload }) => { if (!payload.restart) feed.error = payload.error })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: start !== 'latest' && reset !== 'latest' })
  await consumer.run({
    autoCommit: false,
    partitionsConsumedConcurrently: 4,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
      for (const message of batch.messages) {
        if (!isRunning() || isStale()) return
        const beats = setInterval(() => heartbeat().catch(() => feed.drop()), 500)
        const taken = await feed.push(recordOf(batch.partition, message))
        clearInterval(beats)
        if (!taken) return
        resolveOffset(message.offset)
      }
    }
  })
  if (typeof start === 'number') consumer.seek({ topic, partition: 0, offset: `${start}` })
}

const positions = ({ topic, feed }) => ({
  topic, partitions: [...feed.polled].map(([partition, offset]) => ({ partition, offset: `${offset}` }))
})

const verbs = {
  about: () => ({ client: `KafkaJS ${require('kafkajs/package.json').version}` }),

  async create_topic({ topic, partitions, config }) {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    const made = await (await administer()).createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }] })
    if (!made) throw Object.assign(new Error('it exists'), { code: 36 })
  },

  topics: async () => ({ topics: await (await administer()).listTopics() }),

  async describe_topic({ topic }) {
    const { topics } = await (await administer()).fetchTopicMetadata({ topics: [topic] })
    return { partitions: topics[0].partitions.length }
  },

  async describe_config({ topic }) {
    const { resources } = await (await administer()).describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
    return { config: Object.fromEntries(resources[0].configEntries.map((entry) => [entry.configName, entry.configValue])) }
  },

  async alter_config({ topic, config }) {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    await (await administer()).alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }] })
  },

  async add_partitions({ topic, count }) {
    await (await administer()).createPartitions({ topicPartitions: [{ topic, count }] })
  },

  async delete_records({ topic, partition, before }) {
    // It knows who leads only what it was asked about.
    await (await administer()).fetchTopicOffsets(topic)
    await (await administer()).deleteTopicRecords({ topic, partitions: [{ partition, offset: `${before}` }] })
  },

  async delete_topic({ topic }) {
    await (await administer()).deleteTopics({ topics: [topic] })
  },

  async produce({ topic, records, codec, acks }) {
    const compression = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[codec]
    // Others are packages of their own.
    if (compression === undefined) throw new Unsupported()
    const producer = kafka.producer({ retry: { retries: 2 } })
    await producer.connect()
    try {
      const told = await producer.send({ topic, messages: records.map(messageOf), compression, acks: acks === 'all' ? -1 : Number(acks) })
      const first = told.length > 0 ? Number(told[0].baseOffset) : null
      return { offsets: acks === '0' ? [] : records.map((_, at) => first + at) }
    } finally {
      await producer.disconnect()
    }
  },

  async offset_at({ topic, timestamp }) {
    const told = await (await administer()).fetchTopicOffsetsByTimestamp(topic, timestamp)
    return { offset: Number(told[0].offset) }
  },

  async open({ member, topic, start, reset, committed }) {
    // An offset out of range is not told of.
    if (reset === 'none') throw new Unsupported()
    await run(member, `conformance-${process.pid}-${member}`, topic, committed, start, reset)
  },

  async join({ member, group, topic, protocol }) {
    if (protocol !== 'classic') throw new Unsupported()
    await run(member, group, topic, true, 'earliest')
  },

  poll: ({ member, count, seconds }) => members[member].feed.poll({ count, seconds }),

  async commit({ member }) {
    const { topic, partitions } = positions(members[member])
    await members[member].consumer.commitOffsets(partitions.map((of) => ({ topic, ...of })))
  },

  async leave({ member }) {
    const { consumer, feed } = members[member]
    feed.close()
    await consumer.disconnect()
    delete members[member]
  },

  async txn_open({ id }) {
    producers[id] = kafka.producer({ transactionalId: id, maxInFlightRequests: 1, idempotent: true })
    await producers[id].connect()
  },

  async txn_begin({ id }) {
    transactions[id] = await producers[id].transaction()
  },

  async txn_send({ id, topic, records }) {
    await transactions[id].send({ topic, messages: records.map(messageOf) })
  },

  async txn_offsets({ id, member, group }) {
    await transactions[id].sendOffsets({ consumerGroupId: group, topics: [positions(members[member])] })
  },

  txn_commit: ({ id }) => transactions[id].commit(),
  txn_abort: ({ id }) => transactions[id].abort(),
  txn_close: ({ id }) => producers[id].disconnect()
}

const codeOf = (error) => (error.code > 0 ? error.code : error.cause ? codeOf(error.cause) : error.errors ? codeOf(error.errors[0]) : null)

serve(verbs, codeOf)
