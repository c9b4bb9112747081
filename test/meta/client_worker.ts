/** A thread with a metadata client: puts objects, checks that it sees each of them, and lists. */
import { parentPort, workerData } from 'node:worker_threads'
import { MetadataClient } from '../../ts/meta/client.js'
import type { ClientConnection } from '../../ts/meta/engine_port.js'
import { dataId, part, putObject } from './support.js'

const { connection, name, count, first } = workerData as {
  connection: ClientConnection
  name: string
  count: number
  first: number
}
const client = new MetadataClient(connection)

async function main(): Promise<{ missing: number; corrupt: number; listed: number }> {
  let missing = 0
  let corrupt = 0
  const one = async (at: number): Promise<void> => {
    const key = `${name}-${String(at)}`
    const result = await client.propose(putObject(1, key, part(dataId(1, first + at), 10)), `${name}/${String(at)}`)
    if (!result.ok) throw new Error(JSON.stringify(result))
    for (let attempt = 0; ; attempt++) {
      try {
        client.reader.refresh()
        if (client.reader.object(1, key) === undefined || client.reader.position < result.order.index) missing++
        return
      } catch (error) {
        corrupt++
        if (attempt > 100) throw error
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    }
  }
  for (let at = 0; at < count; at += 8) await Promise.all(Array.from({ length: 8 }, (_, add) => one(at + add)))
  client.reader.refresh()
  const listed = client.reader.list({
    bucketId: 1,
    prefix: `${name}-`,
    delimiter: '',
    after: '',
    limit: 100_000,
  }).entries.length
  return { missing, corrupt, listed }
}

main().then(
  async (outcome) => {
    await client.close()
    parentPort?.postMessage(outcome)
  },
  (error: unknown) => {
    throw error
  },
)
