import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { DrivesRefusedError, openDrives } from '../../ts/drive/open_drives.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { seededRandom } from '../../ts/util/random.js'

const paths = ['/d0', '/d1', '/d2', '/d3']

function drives(seed = 1): SimulatedDrive[] {
  return paths.map((_, index) => new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed * 10 + index) }))
}

function open(simulated: SimulatedDrive[], order = paths): ReturnType<typeof openDrives> {
  const connect = (path: string): ReturnType<SimulatedDrive['connect']> => {
    const drive = simulated[Number(path.slice(2))]
    assert.ok(drive !== undefined)
    return drive.connect()
  }
  return openDrives({ paths: order, connect })
}

describe('opening drives', () => {
  it('makes a cluster once and finds it again', async () => {
    const simulated = drives()
    const first = await open(simulated)
    assert.equal(first.created, true)
    assert.deepEqual(first.layout, { setCount: 1, setSize: 4, parity: 2 })
    assert.deepEqual(first.places.map((place) => place.format?.number), [1, 2, 3, 4])
    await first.confirmMembers()
    await first.close()
    for (const drive of simulated) drive.powerCut()
    const again = await open(simulated)
    assert.equal(again.created, false)
    assert.equal(again.clusterId, first.clusterId)
    assert.deepEqual(again.places.map((place) => place.format), first.places.map((place) => place.format))
    await again.close()
  })

  it('refuses a second server, and changes nothing then', async () => {
    const simulated = drives()
    const first = await open(simulated)
    await assert.rejects(open(simulated), (error) => error instanceof DrivesRefusedError &&
      error.problems.length === 4 && /d0: locked by a running server/.test(error.message))
    await first.confirmMembers()
    await first.close()
    await (await open(simulated)).close()
    await assert.rejects(open(simulated, ['/d0', '/d2', '/d1', '/d3']), DrivesRefusedError)
  })

  it('goes on with the same cluster when its first start was cut at any moment', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const simulated = drives(seed)
      const total = (): number => simulated.reduce((sum, drive) => sum + drive.operations, 0)
      const cutAt = 900 + seed * 9
      for (const drive of simulated) {
        drive.beforeOperation = () => { if (total() >= cutAt) for (const other of simulated) other.powerCut() }
      }
      const confirmed = await open(simulated).then(async (opened) => {
        await opened.confirmMembers()
        return opened.clusterId
      }).catch(() => undefined)
      for (const drive of simulated) {
        drive.beforeOperation = undefined
        drive.kill()
      }
      const again = await open(simulated)
      await again.confirmMembers()
      if (confirmed !== undefined) assert.equal(again.clusterId, confirmed)
      assert.ok(again.places.every((place) => place.state === 'present'))
      await again.close()
      assert.equal((await open(simulated)).created, false)
    }
  })

  it('opens without a drive that is gone, and repairs a damaged format.json', async () => {
    const simulated = drives()
    const first = await open(simulated)
    await first.confirmMembers()
    await first.close()
    const [gone, damaged, wiped] = simulated
    assert.ok(gone && damaged && wiped)
    gone.missing = true
    damaged.disk.flip('format.json', 100, 1)
    const opened = await open(simulated)
    assert.deepEqual(opened.places.map((place) => place.state), ['out', 'present', 'present', 'present'])
    await opened.close()
    wiped.disk.wipe()
    const again = await open(simulated)
    assert.deepEqual(again.places.map((place) => [place.state, place.formatDamaged]),
      [['out', false], ['present', false], ['blank', false], ['present', false]])
  })

  it('works on real directories', async () => {
    const root = mkdtempSync(join(tmpdir(), 'ostraka-open-'))
    const real = ['a', 'b'].map((name) => join(root, name))
    for (const path of real) mkdirSync(path)
    const first = await openDrives({ paths: real })
    await first.confirmMembers()
    await first.close()
    rmSync(join(root, 'b'), { recursive: true })
    const again = await openDrives({ paths: real })
    assert.deepEqual(again.places.map((place) => place.state), ['present', 'out'])
    await again.close()
    await assert.rejects(openDrives({ paths: [...real].reverse() }), DrivesRefusedError)
    rmSync(root, { recursive: true })
  })
})
