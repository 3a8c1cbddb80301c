// KafkaJS: an independent implementation in JavaScript; popular, frozen, and on old versions of many requests.
'use strict'

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { Kafka, CompressionTypes, logLevel } = require('kafkajs')

const kafka = new Kafka({ brokers: [process.env.BOOTSTRAP || '127.0.0.1:9092'], logLevel: logLevel.ERROR })
const admin = kafka.admin()
const unique = (prefix) => `${prefix}-${crypto.randomBytes(4).toString('hex')}`
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function makeTopic(prefix, numPartitions = 1) {
  const topic = unique(prefix)
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true }), true)
  return topic
}

async function produce(topic, messages, options = {}) {
  const { compression, acks, ...config } = options
  const producer = kafka.producer(config)
  await producer.connect()
  try {
    return await producer.send({ topic, messages, compression, acks })
  } finally {
    await producer.disconnect()
  }
}

async function eventually(condition, what, seconds = 30) {
  for (let i = 0; i < seconds * 10; i++) {
    if (await condition()) return
    await sleep(100)
  }
  throw new Error(`not within ${seconds} s: ${what}`)
}

// Runs a group member until `enough(messages)`; `onRun` may seek.
async function consume(topic, groupId, enough, onRun = () => {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000 })
  const messages = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ eachMessage: async ({ partition, message }) => { messages.push({ partition, ...message }) } })
    onRun(consumer)
    await eventually(() => enough(messages), 'enough messages')
  } finally {
    await consumer.disconnect()
  }
  return messages
}

const tests = {
  async topics_live_and_die() {
    const topic = await makeTopic('js-topic', 2)
    assert.ok((await admin.listTopics()).includes(topic))
    assert.equal(await admin.createTopics({ topics: [{ topic }] }), false, 'made a second time')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    const told = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.equal(told.topics[0].partitions.length, 3)
    const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name: topic }], includeSynonyms: false })
    assert.equal(resources[0].configEntries.find((e) => e.configName === 'cleanup.policy').configValue, 'delete')
    await admin.deleteTopics({ topics: [topic] })
    await eventually(async () => !(await admin.listTopics()).includes(topic), 'the topic is gone')
  },

  async plain_and_gzip_go_through_a_group() {
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      const topic = await makeTopic('js-produce')
      const sent = [...Array(500).keys()].map((i) => ({ key: `k${i}`, value: `v${i}`.repeat(10), headers: { h: `${i}` } }))
      const [{ errorCode, baseOffset }] = await produce(topic, sent, { compression, acks: -1 })
      assert.deepEqual([errorCode, baseOffset], [0, '0'])
      const got = await consume(topic, unique('js-group'), (m) => m.length >= 500)
      assert.deepEqual(got.map((m) => [m.offset, `${m.key}`, `${m.value}`, `${m.headers.h}`]),
        sent.map((m, i) => [`${i}`, m.key, m.value, m.headers.h]))
    }
  },

  async idempotent_producer() {
    const topic = await makeTopic('js-idempotent')
    await produce(topic, [...Array(300).keys()].map((i) => ({ value: `${i}` })), { idempotent: true, maxInFlightRequests: 1 })
    const got = await consume(topic, unique('js-group'), (m) => m.length >= 300)
    assert.deepEqual(got.map((m) => `${m.value}`), [...Array(300).keys()].map(String))
  },

  async seek_starts_elsewhere() {
    const topic = await makeTopic('js-seek')
    await produce(topic, [...Array(100).keys()].map((i) => ({ value: `${i}` })))
    const got = await consume(topic, unique('js-group'), (m) => m.some((x) => x.offset === '99'),
      (consumer) => consumer.seek({ topic, partition: 0, offset: '90' }))
    assert.deepEqual(got.slice(-10).map((m) => m.offset), [...Array(10).keys()].map((i) => `${90 + i}`))
  },

  async offsets_and_groups_are_administered() {
    const topic = await makeTopic('js-offsets')
    const groupId = unique('js-group')
    await produce(topic, [...Array(20).keys()].map((i) => ({ value: `${i}` })))
    assert.deepEqual((await admin.fetchTopicOffsets(topic)).map(({ low, high }) => [low, high]), [['0', '20']])
    await consume(topic, groupId, (m) => m.length >= 20)
    const committed = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset
    assert.equal(await committed(), '20')
    assert.ok((await admin.listGroups()).groups.some((g) => g.groupId === groupId))
    assert.equal((await admin.describeGroups([groupId])).groups[0].state, 'Empty')
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '5' }] })
    assert.equal(await committed(), '5')
    await admin.resetOffsets({ groupId, topic, earliest: true })
    await admin.deleteGroups([groupId])
    assert.ok(!(await admin.listGroups()).groups.some((g) => g.groupId === groupId))
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '8' }] })
    assert.equal((await admin.fetchTopicOffsets(topic))[0].low, '8')
  },

  async two_members_share_a_topic() {
    const topic = await makeTopic('js-share', 4)
    const groupId = unique('js-group')
    const consumers = [0, 1].map(() => kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500 }))
    const owned = [[], []]
    const seen = new Set()
    try {
      for (const [i, consumer] of consumers.entries()) {
        consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { owned[i] = payload.memberAssignment[topic] || [] })
        await consumer.connect()
        await consumer.subscribe({ topic, fromBeginning: true })
        await consumer.run({ eachMessage: async ({ message }) => { seen.add(`${message.value}`) } })
      }
      await eventually(() => owned[0].length === 2 && owned[1].length === 2, 'two partitions each', 40)
      assert.deepEqual([...owned[0], ...owned[1]].sort(), [0, 1, 2, 3])
      await produce(topic, [...Array(200).keys()].map((i) => ({ value: `${i}`, partition: i % 4 })))
      await eventually(() => seen.size === 200, 'all records')
    } finally {
      await Promise.all(consumers.map((consumer) => consumer.disconnect()))
    }
  },
}

async function main() {
  let failed = 0
  await admin.connect()
  for (const [name, run] of Object.entries(tests)) {
    if (process.argv.length > 2 && !process.argv.slice(2).some((w) => `kafkajs/${name}`.includes(w))) continue
    const began = Date.now()
    let timer
    const tooLong = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('not done within 60 s')), 60000) })
    let result = `ok kafkajs/${name}`
    try {
      await Promise.race([run(), tooLong])
    } catch (error) {
      failed++
      console.error(error)
      result = `FAIL kafkajs/${name}: ${String(error.message).replace(/\s+/g, ' ').slice(0, 600)}`
    }
    clearTimeout(timer)
    console.log(`${result} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
  }
  console.log('end kafkajs')
  process.exit(failed ? 1 : 0)
}

main()
