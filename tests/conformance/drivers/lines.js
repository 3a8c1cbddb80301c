// The loop of every driver in JavaScript: one JSON object a line on standard input, one answer a line on standard output.
'use strict'

const readline = require('node:readline')

const bootstrap = process.env.BOOTSTRAP

class Unsupported extends Error {}

const text = (data) => (data === null || data === undefined ? null : data.toString())

// Records that a client pushes, for a driver that polls: `push` waits until the record is polled, or the feed is closed.
class Feed {
  constructor() {
    this.waiting = []
    this.error = null
    this.assigned = []
    this.polled = new Map()
    this.closed = false
  }

  push(record) {
    if (this.closed) return Promise.resolve(false)
    return new Promise((resolve) => this.waiting.push({ record, resolve }))
  }

  // What waits is not wanted any more: it comes again, or never.
  drop() {
    for (const { resolve } of this.waiting.splice(0)) resolve(false)
  }

  close() {
    this.closed = true
    this.drop()
  }

  async poll({ count, seconds }) {
    const deadline = Date.now() + seconds * 1000
    const records = []
    let silentSince = 0
    while (records.length < count && Date.now() < deadline && !(records.length > 0 && Date.now() - silentSince > 20)) {
      if (this.error && records.length === 0) {
        const error = this.error
        this.error = null
        throw error
      }
      const next = this.waiting.shift()
      if (next) {
        records.push(next.record)
        this.polled.set(next.record.partition, next.record.offset + 1)
        next.resolve(true)
        silentSince = Date.now()
      }
      await new Promise((resolve) => (next ? setImmediate(resolve) : setTimeout(resolve, 5)))
    }
    return { records, assigned: this.assigned }
  }
}

async function answer(verbs, codeOf, { do: name, ...asked }) {
  if (!verbs[name]) return { unsupported: true }
  try {
    return (await verbs[name](asked)) || {}
  } catch (error) {
    if (error instanceof Unsupported) return { unsupported: true }
    return { error: { code: codeOf(error), text: `${error}`.slice(0, 500) } }
  }
}

// Answers until standard input ends; `codeOf` finds Kafka's code in an error, or gives null.
async function serve(verbs, codeOf) {
  process.on('unhandledRejection', (error) => console.error(error))
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(verbs, codeOf, JSON.parse(line))) + '\n')
  }
  process.exit(0)
}

module.exports = { bootstrap, serve, text, Feed, Unsupported }
