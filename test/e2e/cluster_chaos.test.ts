/** Minutes of everything that can go wrong, with 3 and with 5 nodes: OSTRAKA_TEST_LONG, OSTRAKA_TEST_MINUTES (5). */
import { describe, test } from 'node:test'

import { makeDrives } from '../../bench/load/server_process.js'
import { allFaults, rampage } from './chaos.js'
import { LONG, makeBucket } from './clients.js'
import { TestCluster } from './cluster.js'
import { SmallDisk } from './small_disk.js'

const minutes = Number(process.env.OSTRAKA_TEST_MINUTES ?? 5)
/** Part of the names of the faults that are wanted. */
const wanted = process.env.OSTRAKA_TEST_FAULT ?? ''
const faults = allFaults.filter(({ name }) => name.includes(wanted))
const skip = LONG ? false : 'takes minutes'

describe('real nodes keep their promises through everything at once', { skip }, () => {
  for (const count of [3, 5]) {
    test(`${String(count)} nodes`, { timeout: (minutes + 10) * 60_000 }, async () => {
      const small = SmallDisk.mount(400)
      const places = small === undefined ? [] : [makeDrives(2, small.folder)]
      const cluster = await TestCluster.start(count, ['--metadata-log-entries', '50'], places)
      try {
        await makeBucket(cluster.nodes[0]!.s3, 'load')
        await rampage({ cluster, small, faults, minutes, padding: 1_500 })
      } finally {
        await cluster.stop()
        small?.remove()
      }
    })
  }
})
