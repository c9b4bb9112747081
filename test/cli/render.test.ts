import assert from 'node:assert/strict'
import { test } from 'node:test'

import { bar, bytes, jobLines, seconds, table, taskLine } from '../../ts/cli/render.js'

const task = {
  subject: 'drive 7',
  startedMs: 0,
  partsDone: 5,
  partsTotal: 20,
  bytesDone: 1 << 20,
  bytesPerSecond: 1 << 20,
  partsPerSecond: 5,
  etaSeconds: 3,
}

test('a bar is full at the end, empty at the start, and full when there is nothing to do', () => {
  assert.equal(bar(0, 10, 4), '[....]   0.0 %')
  assert.equal(bar(5, 10, 4), '[##..]  50.0 %')
  assert.equal(bar(10, 10, 4), '[####] 100.0 %')
  assert.equal(bar(11, 10, 4), '[####] 100.0 %')
  assert.equal(bar(0, 0, 4), '[####] 100.0 %')
})

test('sizes and times have units that fit them', () => {
  assert.deepEqual([0, 1023, 1024, 5 * 2 ** 30].map(bytes), ['0 B', '1023 B', '1.0 KiB', '5.0 GiB'])
  assert.deepEqual([5, 600, 7200, 864_000].map(seconds), ['5 s', '10 min', '2.0 h', '10.0 days'])
})

test('columns of a table line up', () => {
  assert.equal(
    table([
      ['A', 'LONGER', 'C'],
      ['first', 'x', 'y'],
    ]),
    'A      LONGER  C\nfirst  x       y',
  )
})

test('a walk is shown with its share, rate and end; without a total only with its count', () => {
  assert.match(taskLine(task), /^drive 7: \[#+\.+\] {2}25\.0 % {2}5\/20 parts, 1\.0 MiB\/s, 5 parts\/s, 3 s left$/)
  assert.equal(taskLine({ ...task, partsTotal: null }), 'drive 7: 5 parts, 1.0 MiB/s, 5 parts/s')
})

test('a job says what it does, what it counted and what last went wrong', () => {
  const lines = jobLines({
    job: 'healer',
    state: 'running',
    detail: '',
    task,
    counters: { parts: 3, left: 1 },
    lastError: 'drive 2 is out',
  })
  assert.equal(lines[0], 'healer: running; parts 3, left 1')
  assert.equal(lines.at(-1), '  last error: drive 2 is out')
})
