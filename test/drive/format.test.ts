import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type DriveFormat,
  formatText,
  parseFormat,
  readFormat,
  repairFormat,
  writeFormat,
} from '../../ts/drive/format.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { checksum64 } from '../../ts/native/hash.js'
import { seededRandom } from '../../ts/util/random.js'
import { exampleFormat } from './shards.js'

const drive = (seed = 1): SimulatedDrive => new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed) })

describe('format.json', () => {
  it('is read as it was written', async () => {
    const simulated = drive()
    await writeFormat(simulated.connect(), exampleFormat)
    simulated.powerCut()
    const found = await readFormat(simulated.connect(), 1000)
    assert.deepEqual(found, { kind: 'format', format: exampleFormat, damaged: false })
  })

  it('is never read wrongly, whichever bit is flipped, and is repaired from its copy', async () => {
    const text = formatText(exampleFormat)
    const bytes = Buffer.from(text)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      assert.equal(parseFormat(flipped.toString('utf8')).kind, 'damaged', `bit ${String(bit)}`)
    }
    for (const path of ['format.json', 'format.copy.json']) {
      const simulated = drive()
      const io = simulated.connect()
      await writeFormat(io, exampleFormat)
      simulated.disk.flip(path, 40, 4)
      assert.deepEqual(await readFormat(io, 1000), { kind: 'format', format: exampleFormat, damaged: true })
      await repairFormat(io, exampleFormat)
      assert.equal(Buffer.from(simulated.disk.contents(path)).toString(), text)
      simulated.disk.unlink(path)
      assert.deepEqual(await readFormat(io, 1000), { kind: 'format', format: exampleFormat, damaged: true })
    }
  })

  it('tells a newer format from a damaged one', () => {
    const members = { about: 'x', version: 2, something: 'else' }
    const checksum = Buffer.alloc(8)
    checksum64(checksum, 0, [Buffer.from(JSON.stringify(members))], 0x464f_524d)
    const newer = JSON.stringify({ ...members, checksum: checksum.toString('hex') })
    assert.deepEqual(parseFormat(newer), { kind: 'newer', version: 2 })
    for (const text of ['', '{', 'null', '7', '{}', newer.replace('else', 'fake')]) {
      assert.equal(parseFormat(text).kind, 'damaged', text)
    }
  })

  it('takes for blank only what holds nothing', async () => {
    const simulated = drive()
    const io = simulated.connect()
    assert.equal((await readFormat(io, 1000)).kind, 'blank')
    await writeFormat(io, exampleFormat)
    simulated.disk.place('lock', new Uint8Array(0))
    for (const path of ['format.json', 'format.copy.json']) simulated.disk.unlink(path)
    assert.equal((await readFormat(io, 1000)).kind, 'blank', 'an interrupted first start')
    simulated.disk.place('shards/7f/x', new Uint8Array(1))
    assert.equal((await readFormat(io, 1000)).kind, 'damaged')
    simulated.disk.unlink('shards/7f/x')
    simulated.disk.place('holiday.jpg', new Uint8Array(1))
    assert.equal((await readFormat(io, 1000)).kind, 'damaged')
  })

  it('is whole after a power cut at any moment of writing or rewriting it', async () => {
    for (let seed = 0; seed < 150; seed++) {
      const simulated = drive(seed)
      const again: DriveFormat = { ...exampleFormat, epoch: 2 }
      if (seed % 2 === 0) await writeFormat(simulated.connect(), exampleFormat)
      const cutAt = simulated.operations + (seed % 2 === 0 ? 1 + (seed / 2) % 15 : 255 + seed % 22)
      simulated.beforeOperation = () => {
        if (simulated.operations !== cutAt) return
        simulated.beforeOperation = undefined
        simulated.powerCut()
      }
      const done = await writeFormatOnly(simulated, again, seed % 2 === 0).then(() => true, () => false)
      simulated.beforeOperation = undefined
      simulated.kill()
      const found = await readFormat(simulated.connect(), 1000)
      if (done) assert.deepEqual(found.kind === 'format' && found.format.epoch, 2)
      else if (seed % 2 === 0) assert.ok(found.kind === 'format' && [1, 2].includes(found.format.epoch), found.kind)
      else assert.ok(found.kind === 'blank' || (found.kind === 'format' && found.format.epoch === 2), found.kind)
    }
  })
})

async function writeFormatOnly(simulated: SimulatedDrive, format: DriveFormat, rewrite: boolean): Promise<void> {
  const io = simulated.connect()
  await (rewrite ? repairFormat(io, format) : writeFormat(io, format))
}
