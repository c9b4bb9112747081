/**
 * One bit of a segment or hint flipped before, during or after a compaction: of the segments compacted, of the one
 * they are copied into, and of their hints. In the same process, and in one that starts when the bit has just flipped
 * or when the compaction has ended.
 *
 * What must hold: a shard reads as its bytes, or the read says that it is damaged. A flip costs one shard at most. What
 * was deleted stays so. What was hit can be healed, and then compaction ends and leaves nothing behind.
 *
 * One case is no single fault: the process dies right after a bit flipped in a segment that it was writing to. The last
 * batch there cannot be told from one that was never acknowledged, and is cut. It costs no shard that any other file
 * has, and what it costs is missing, never wrong.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ShardError } from '../../../ts/drive/drive.js'
import { randomInteger, type Random, seededRandom } from '../../../ts/util/random.js'
import { openHint } from '../../../ts/drive/segments/hint.js'
import {
  parseSegmentName,
  segmentOf,
  segmentPath,
  SEGMENTS_DIRECTORY,
  segmentSeed,
} from '../../../ts/drive/segments/segment_file.js'
import { DRIVE_ID } from './support.js'
import { World } from './compaction_world.js'

const SEED = Number(process.env['OSTRAKA_SEED'] ?? Math.floor(Math.random() * 1e9))
const LONG = process.env['OSTRAKA_TEST_LONG'] !== undefined
/** More operations than a compaction of such a world has. */
const OPERATIONS_MOST = 60

interface Flip {
  path: string
  at: number
  /** In a segment that the next process must read from its own bytes. */
  active: boolean
  /** Shards whose bytes another file has too. */
  elsewhere: Set<string>
}

interface Plan {
  seed: number
  /** Flips when this says so: before an operation on the drive, by its number, or after a step of the compactor. */
  when: { operation: number } | { step: number }
  /** The byte to flip, among all bytes in segments/. */
  byte: (count: number) => number
  mask: number
  restart: 'atOnce' | 'atEnd' | 'never'
  how: 'kill' | 'powerCut'
}

/** 8 shards in two segments, every other one deleted, the tombstones in a third. */
async function smallWorld(seed: number): Promise<World> {
  const world = await World.create(seed, { sealRecords: 4 })
  for (let i = 0; i < 8; i++) await world.put(0, 60 + i)
  await world.seal()
  for (const [i, id] of world.ids('live').entries()) if (i % 2 === 0) await world.delete(1, id)
  await world.seal()
  return world
}

function sizes(world: World): { path: string; size: number }[] {
  return world.files().map((path) => ({ path, size: world.simulated.disk.contents(path).length }))
}

function total(world: World): number {
  return sizes(world).reduce((sum, { size }) => sum + size, 0)
}

function flipByte(world: World, nth: number, mask: number): Flip {
  let at = nth
  const file = sizes(world).find(({ size }) => {
    if (at < size) return true
    at -= size
    return false
  })
  assert.ok(file !== undefined, `no byte ${String(nth)}`)
  const { path } = file
  const others = world.files().filter((other) => other !== path && other.endsWith('.seg'))
    .map((other) => Buffer.from(world.simulated.disk.contents(other)))
  const elsewhere = world.ids('live').filter((id) => others.some((bytes) => bytes.includes(world.known.get(id)!.bytes)))
  world.simulated.disk.flip(path, at, mask)
  return { path, at, active: false, elsewhere: new Set(elsewhere) }
}

/** A segment without a hint that holds, so that the next process reads it from its own bytes. */
function isActive(world: World, path: string): boolean {
  const { disk } = world.simulated
  const file = parseSegmentName(path.slice(SEGMENTS_DIRECTORY.length + 1))
  const hint = path.replace(/seg$/, 'hint')
  if (file?.kind !== 'seg' || !world.files().includes(path)) return false
  if (!world.files().includes(hint)) return true
  const length = disk.contents(path).length
  const seed = segmentSeed(DRIVE_ID, file.number)
  return openHint(Buffer.from(disk.contents(hint)), file.number, length, seed) === undefined
}

/** What becomes of each shard: its bytes can be read, it is missing, or said to be damaged. */
async function survey(world: World): Promise<Map<string, 'read' | 'missing' | 'corrupt'>> {
  const found = new Map<string, 'read' | 'missing' | 'corrupt'>()
  for (const id of world.known.keys()) {
    for (const thread of [0, 1]) {
      try {
        found.set(id, (await world.read(thread, id)) === undefined ? 'missing' : 'read')
      } catch (error) {
        if (!(error instanceof ShardError)) throw error
        assert.equal(error.code, 'corrupt', error.message)
        found.set(id, 'corrupt')
      }
    }
  }
  return found
}

/** Checks it against the model; gives the shards that need a heal, and those that need a delete once more. */
async function judge(
  world: World, flip: Flip, cut: boolean, what: string,
): Promise<{ hurt: string[]; back: string[] }> {
  const found = await survey(world)
  const hurt = world.ids('live').filter((id) => found.get(id) !== 'read')
  const back = world.ids('dead').filter((id) => found.get(id) !== 'missing')
  const { index } = world.threads[0]!.segments
  for (const id of hurt) {
    const location = index.get(world.known.get(id)!.shard.header.dataId)
    if (found.get(id) === 'corrupt') assert.equal(segmentPath(segmentOf(location)), flip.path, `a copy is bad, ${what}`)
  }
  if (cut && flip.active) {
    const { damaged } = await world.threads[0]!.load()
    for (const id of hurt) {
      if (damaged === 0) assert.ok(!flip.elsewhere.has(id), `${id} is lost, though another file has it, ${what}`)
    }
    return { hurt, back }
  }
  assert.deepEqual(back, [], `deleted shards are back, ${what}`)
  assert.ok(hurt.length <= (flip.path.endsWith('.seg') ? 1 : 0), `${String(hurt.length)} shards are hurt, ${what}`)
  for (const id of hurt) assert.equal(found.get(id), 'corrupt', `${id} is lost without a word, ${what}`)
  return { hurt, back }
}

/** Compacts, and flips on the way or at the end. */
async function compactAndFlip(world: World, { when, byte, mask, restart, how }: Plan): Promise<Flip> {
  let flip: Flip | undefined
  const strike = (): void => {
    flip = flipByte(world, byte(total(world)), mask)
    if (restart !== 'atOnce') return
    if (how === 'kill') world.simulated.kill()
    else world.simulated.powerCut()
    flip.active = isActive(world, flip.path)
  }
  let count = 0
  if ('operation' in when) {
    world.simulated.beforeOperation = () => {
      if (count++ === when.operation) strike()
    }
  }
  try {
    for (let step = 0; ; step++) {
      if ('step' in when && step === when.step) strike()
      if (flip !== undefined && restart === 'atOnce') break
      if ((await world.step()) !== 'worked') break
    }
  } catch (error) {
    if (flip === undefined || restart !== 'atOnce' || (error as Error).name === 'AssertionError') throw error
  }
  world.simulated.beforeOperation = undefined
  if (flip === undefined) strike()
  return flip!
}

async function run(plan: Plan): Promise<void> {
  const world = await smallWorld(plan.seed)
  const flip = await compactAndFlip(world, plan)
  const where = `${flip.path} byte ${String(flip.at)}, ${JSON.stringify(plan)}`
  const cut = plan.restart === 'atOnce'
  if (plan.restart !== 'never') await world.restart(plan.how)
  const first = await judge(world, flip, cut, `at first, ${where}`)
  await world.compact()
  const { hurt, back } = await judge(world, flip, cut, `compacted, ${where}`)
  if (!cut) assert.deepEqual(hurt, first.hurt, where)
  for (const id of hurt) await world.heal(0, id)
  for (const id of back) await world.delete(0, id)
  await world.check(`healed, ${where}`)
  await world.seal()
  await world.compact()
  await world.restart('powerCut')
  await world.check(`healed and compacted, ${where}`)
}

function drawn(random: Random, number: number): Plan {
  return {
    seed: SEED + number,
    when: { operation: random() < 0.3 ? 0 : randomInteger(random, OPERATIONS_MOST) },
    byte: (count) => randomInteger(random, count),
    mask: 1 << randomInteger(random, 8),
    restart: (['atOnce', 'atEnd', 'never'] as const)[randomInteger(random, 3)]!,
    how: (['kill', 'powerCut'] as const)[randomInteger(random, 2)]!,
  }
}

describe('compaction and flipped bits', () => {
  it('gives right bytes or says damage, wherever and whenever a bit flips', async () => {
    console.log(`seed ${String(SEED)}`)
    const random = seededRandom(SEED)
    for (let number = 0; number < (LONG ? 5000 : 150); number++) await run(drawn(random, number))
  })

  it('does so for every byte after every step', { skip: LONG ? false : 'a big run' }, async () => {
    console.log(`seed ${String(SEED)}`)
    for (let step = 0, over = false; !over; step++) {
      const world = await smallWorld(SEED)
      for (let i = 0; i < step && !over; i++) over = (await world.step()) !== 'worked'
      const count = total(world)
      for (let byte = 0; byte < count; byte++) {
        const mask = 1 << ((byte + step) % 8)
        const how = byte % 2 === 0 ? 'kill' : 'powerCut'
        const restart = (['atOnce', 'atEnd', 'never'] as const)[(byte + step) % 3]!
        await run({ seed: SEED, when: { step }, byte: () => byte, mask, restart, how })
      }
    }
  })
})
