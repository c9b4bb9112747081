import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { DriveFormat } from '../../ts/drive/format.js'
import {
  decideRoster,
  defaultParity,
  defaultSetSize,
  type FoundDrive,
  type RosterOptions,
} from '../../ts/drive/roster.js'

const CLUSTER = 'cluster-a'

function format(index: number, setSize = 4, setCount = 1): DriveFormat {
  return {
    clusterId: CLUSTER, driveId: `drive-${String(index)}`, number: index + 1, pool: 0, set: Math.floor(index / setSize),
    position: index % setSize, epoch: 1, setCount, setSize, parity: defaultParity(setSize), state: 'member',
  }
}

const path = (index: number): string => `/mnt/disk${String(index + 1)}`

function members(count = 4, setSize = 4): FoundDrive[] {
  return Array.from({ length: count }, (_, index) =>
    ({ path: path(index), kind: 'format', format: format(index, setSize, count / setSize), damaged: false }))
}

function blanks(count: number): FoundDrive[] {
  return Array.from({ length: count }, (_, index) => ({ path: path(index), kind: 'blank' }))
}

function refused(found: FoundDrive[], ...expected: (RegExp | string)[]): void {
  refusedWith({}, found, ...expected)
}

function refusedWith(options: RosterOptions, found: FoundDrive[], ...expected: (RegExp | string)[]): void {
  const decision = decideRoster(found, options)
  assert.equal(decision.kind, 'refuse')
  const text = decision.kind === 'refuse' ? decision.problems.join('\n') : ''
  for (const part of expected)
    assert.ok(typeof part === 'string' ? text.includes(part) : part.test(text), `${String(part)} in: ${text}`)
}

describe('roster', () => {
  it('chooses set size and parity', () => {
    const sizes = [1, 2, 3, 4, 5, 6, 8, 12, 16, 18, 24, 32, 34, 17].map((count) => defaultSetSize(count))
    assert.deepEqual(sizes, [1, 2, 3, 4, 5, 6, 8, 12, 16, 9, 12, 16, 2, undefined])
    assert.deepEqual([1, 2, 3, 4, 5, 6, 7, 8, 16].map(defaultParity), [0, 1, 1, 2, 2, 3, 3, 4, 4])
  })

  it('makes a cluster of blank drives only', () => {
    const decision = decideRoster(blanks(8), { setSize: 4 })
    assert.deepEqual(decision, {
      kind: 'initialise',
      layout: { setCount: 2, setSize: 4, parity: 2 },
      clusterId: undefined,
      known: Array(8).fill(undefined),
    })
    refused([...blanks(3), { path: '/x', kind: 'missing' }], '/x: the directory does not exist', 'blank')
    refused([...blanks(3), { path: '/x', kind: 'damaged', detail: 'y' }], '/x: damaged: y')
    refused([...blanks(3), { path: '/x', kind: 'unreadable', detail: 'EIO' }], '/x: cannot be read: EIO')
    refused([], 'no drives')
    refused(blanks(17), '17 drives cannot be divided')
    refusedWith({ setSize: 3 }, blanks(4), 'set-size: expected a divisor of 4 from 2 to 16, given 3')
    refusedWith({ setSize: 1 }, blanks(4), 'set-size')
    refusedWith({ parity: 3 }, blanks(4), 'parity: expected 0 to 2 for sets of 4 drives, given 3')
  })

  it('goes on with a first start that was cut short', () => {
    const half = blanks(4)
    half[1] = { path: path(1), kind: 'format', format: { ...format(1), state: 'initialising' }, damaged: false }
    const decision = decideRoster(half)
    assert.ok(
      decision.kind === 'initialise' &&
        decision.clusterId === CLUSTER &&
        decision.known[1]?.driveId === 'drive-1',
    )
    const other = decideRoster(half, { parity: 1 })
    assert.ok(other.kind === 'initialise' && other.clusterId === undefined && other.known[1] === undefined)
    const confirmed = members()
    confirmed[2] = { path: path(2), kind: 'format', format: { ...format(2), state: 'initialising' }, damaged: false }
    assert.equal(decideRoster(confirmed).kind, 'open')
  })

  it('opens with every drive, and with as many out as parity allows', () => {
    const all = decideRoster(members(8))
    assert.ok(all.kind === 'open' && all.places.every((place) => place.state === 'present'))
    const found = members(8)
    found[1] = { path: path(1), kind: 'missing' }
    found[2] = { path: path(2), kind: 'blank' }
    found[7] = { path: path(7), kind: 'unmounted' }
    const decision = decideRoster(found)
    assert.ok(decision.kind === 'open')
    assert.deepEqual(
      decision.places.map((place) => place.state),
      ['present', 'out', 'blank', 'present', 'present', 'present', 'present', 'out'],
    )
    assert.deepEqual(decision.places.map((place) => [place.set, place.position]).slice(3, 6), [[0, 3], [1, 0], [1, 1]])
    found[3] = { path: path(3), kind: 'damaged', detail: 'no format.json, but shards' }
    refused(
      found,
      'set 0: expected at least 2 of its 4 drives, found 1',
      '/mnt/disk2 (the directory does not exist)',
      '/mnt/disk4 (damaged',
    )
  })

  it('refuses drives of another cluster, in the wrong place, twice, locked or newer, and says which', () => {
    const foreign = members()
    foreign[3] = { path: path(3), kind: 'format', format: { ...format(3), clusterId: 'cluster-b' }, damaged: false }
    refused(foreign, '/mnt/disk4: expected a drive of cluster cluster-a, found one of cluster cluster-b')
    const tied = members(2, 2)
    tied[1] = { path: path(1), kind: 'format', format: { ...format(1, 2), clusterId: 'cluster-b' }, damaged: false }
    refused(tied, '/mnt/disk1: belongs to cluster cluster-a', '/mnt/disk2: belongs to cluster cluster-b')
    const swapped = members()
    swapped[1] = { path: path(1), kind: 'format', format: format(2), damaged: false }
    swapped[2] = { path: path(2), kind: 'format', format: format(1), damaged: false }
    refused(
      swapped,
      '/mnt/disk2: expected set 0 position 1, found the drive of set 0 position 2, whose place in the configuration is /mnt/disk3',
      '/mnt/disk3: expected set 0 position 2, found the drive of set 0 position 1',
    )
    const twice = members()
    twice[3] = { path: path(3), kind: 'format', format: format(0), damaged: false }
    refused(twice, '/mnt/disk4: holds the same drive as /mnt/disk1')
    refused([...members(3), { path: path(0), kind: 'blank' }], '/mnt/disk1: given twice')
    refused([...members(3), { path: path(3), kind: 'locked' }], '/mnt/disk4: locked by a running server')
    refused(
      [...members(3), { path: path(3), kind: 'newer', version: 9 }],
      '/mnt/disk4: drive format 9, this version knows up to 1',
    )
    refused(members(8).slice(0, 4), 'expected 8 drives of this cluster, 4 are configured')
    refusedWith({ parity: 1 }, members(), 'parity: this cluster was made with 2, given 1')
    refusedWith({ setSize: 2 }, members(), 'set-size: this cluster was made with 4, given 2')
  })

  it('opens no permutation of the drives but the right one', () => {
    fc.assert(fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8 }), (order) => {
      const found = order.map((drive, index): FoundDrive => ({
        path: path(index),
        kind: 'format',
        format: format(drive, 4, 2),
        damaged: false,
      }))
      const inOrder = order.every((drive, index) => drive === index)
      assert.equal(decideRoster(found).kind, inOrder ? 'open' : 'refuse')
    }))
  })
})
