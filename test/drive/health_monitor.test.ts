import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DriveTable } from '../../ts/drive/drive_table.js'
import { writeFormat } from '../../ts/drive/format.js'
import {
  type DriveEvent,
  HealthMonitor,
  type HealthMonitorOptions,
  type MonitoredDrive,
  reserveOf,
} from '../../ts/drive/health_monitor.js'
import { SimulatedDisk, SimulatedDrive, type SimulatedDriveOptions } from '../../ts/drive/simulated_io.js'
import { exampleFormat } from './shards.js'

interface Bench {
  simulated: SimulatedDrive
  drive: MonitoredDrive
  monitor: HealthMonitor
  events: DriveEvent[]
  states: () => string[]
}

async function bench(options: HealthMonitorOptions = {}, drive: SimulatedDriveOptions = {}): Promise<Bench> {
  const simulated = new SimulatedDrive(new SimulatedDisk(), drive)
  const io = simulated.connect()
  await writeFormat(io, exampleFormat)
  const row = DriveTable.create(1).row(0)
  row.set('online', 'none')
  const monitored: MonitoredDrive = { path: '/d', io, row, format: exampleFormat }
  const events: DriveEvent[] = []
  const monitor = new HealthMonitor([monitored], { ...options, onEvent: (event) => { events.push(event) } })
  const states = (): string[] =>
    events.map((event) => (event.kind === 'state' ? `${event.from} ${event.health.state}` : event.kind))
  return { simulated, drive: monitored, monitor, events, states }
}

describe('health monitor', () => {
  it('leaves a drive that is well alone, keeps its free space, and leaves nothing behind', async () => {
    const { simulated, drive, monitor, states } = await bench({ writeEvery: 1 })
    for (let i = 0; i < 3; i++) await monitor.probeAll()
    assert.deepEqual(states(), [])
    assert.ok(drive.row.health.totalBytes > 0)
    assert.deepEqual(simulated.disk.list('tmp'), [])
  })

  it('brings back a drive whose writes failed, once they are proved to work', async () => {
    const { simulated, drive, monitor, states } = await bench()
    drive.row.failed('write', 'EIO')
    const fixed = simulated.addFault({ op: 'sync', fault: { error: 'EIO' } })
    await monitor.probeAll()
    assert.equal(drive.row.state, 'offline')
    fixed()
    await monitor.probeAll()
    assert.equal(drive.row.state, 'online')
    assert.equal(drive.row.health.reason, '')
    assert.deepEqual(states(), ['online offline', 'offline online'])
  })

  it('does not bring back a drive that gives other bytes than were written', async () => {
    const { simulated, drive, monitor } = await bench()
    drive.row.failed('write', 'EIO')
    let damage = true
    simulated.beforeOperation = (op) => {
      if (damage && op.op === 'read' && op.into.length === 4096)
        for (const name of simulated.disk.list('tmp')) simulated.disk.flip(`tmp/${name}`, 99, 1)
    }
    await monitor.probeAll()
    assert.equal(drive.row.state, 'offline')
    damage = false
    await monitor.probeAll()
    assert.equal(drive.row.state, 'online')
  })

  it('notices a drive that is read-only, missing, blank or somebody else, and its return', async () => {
    const { simulated, drive, monitor, states } = await bench({ writeEvery: 1 })
    simulated.readOnly = true
    await monitor.probeAll()
    assert.equal(drive.row.state, 'readOnly')
    simulated.readOnly = false
    simulated.missing = true
    await monitor.probeAll()
    assert.deepEqual([drive.row.state, drive.row.health.reason], ['offline', 'the drive is missing'])
    simulated.missing = false
    await monitor.probeAll()
    assert.equal(drive.row.state, 'online')
    await writeFormat(drive.io, { ...exampleFormat, epoch: 2 })
    await monitor.probeAll()
    assert.equal(drive.row.state, 'refused')
    simulated.disk.wipe()
    await monitor.probeAll()
    await monitor.probeAll()
    assert.equal(drive.row.state, 'offline')
    await writeFormat(drive.io, exampleFormat)
    await monitor.probeAll()
    assert.deepEqual(states(), [
      'online readOnly',
      'readOnly offline',
      'offline online',
      'online refused',
      'blank',
      'refused offline',
      'offline online',
    ])
  })

  it('repairs one damaged copy of format.json', async () => {
    const { simulated, drive, monitor, states } = await bench()
    const before = simulated.disk.contents('format.json')
    simulated.disk.flip('format.json', 60, 2)
    await monitor.probeAll()
    assert.deepEqual(simulated.disk.contents('format.json'), before)
    assert.equal(drive.row.state, 'online')
    assert.deepEqual(states(), ['formatRepaired'])
  })

  it('keeps a reserve of free space, smaller on small drives, and takes the drive back with some room', async () => {
    assert.equal(reserveOf(2 ** 40), 2 ** 30)
    assert.equal(reserveOf(20_000_000), 1_000_000)
    const { simulated, drive, monitor } = await bench()
    simulated.disk.capacityBytes = 1_000_000
    simulated.disk.place('ballast', new Uint8Array(960_000))
    await monitor.probeAll()
    assert.deepEqual([drive.row.state, drive.row.health.reason], ['full', 'free space is below the reserve'])
    simulated.disk.place('ballast', new Uint8Array(947_000))
    await monitor.probeAll()
    assert.equal(drive.row.state, 'full')
    simulated.disk.place('ballast', new Uint8Array(940_000))
    await monitor.probeAll()
    assert.equal(drive.row.state, 'online')
  })

  it('takes a drive that hangs out and brings it back, never probing it twice at a time', async () => {
    const timers: (() => void)[] = []
    const { simulated, drive, monitor } = await bench({}, { threads: 4, timer: (fire) => {
      timers.push(fire)
      return () => { timers.splice(timers.indexOf(fire), 1) }
    } })
    const release = simulated.addFault({ op: 'list', fault: { hang: true } })
    const first = monitor.probeAll()
    const second = monitor.probeAll()
    for (let i = 0; i < 5; i++) await new Promise(setImmediate)
    assert.equal(drive.io.pending, 1)
    for (const fire of timers.slice()) fire()
    await Promise.all([first, second])
    assert.equal(drive.row.state, 'online', 'one missed deadline is forgiven')
    const third = monitor.probeAll()
    for (let i = 0; i < 5; i++) await new Promise(setImmediate)
    for (const fire of timers.slice()) fire()
    await third
    assert.equal(drive.row.state, 'slow')
    release()
    await monitor.probeAll()
    assert.equal(drive.row.state, 'online')
  })

  it('leaves out what the operator took out', async () => {
    const { drive, monitor } = await bench()
    drive.row.set('offline', 'operator')
    await monitor.probeAll()
    assert.deepEqual([drive.row.state, drive.row.reason], ['offline', 'operator'])
  })
})

describe('drive table', () => {
  it('is the same in every view of its memory, and never made better by a thread that reports errors', () => {
    const table = DriveTable.create(3, () => 1234)
    const row = DriveTable.over(table.memory).row(1)
    assert.deepEqual([row.state, row.reason], ['offline', 'notOpened'])
    table.row(1).set('online', 'none')
    row.number = 77
    assert.deepEqual(
      [row.state, table.row(1).number, table.row(1).health.sinceMs, table.row(2).state],
      ['online', 77, 1234, 'offline'],
    )
    row.failed('write', 'ENOSPC')
    assert.equal(row.state, 'full')
    row.failed('read', 'ETIMEDOUT')
    assert.equal(row.state, 'full', 'one missed deadline is forgiven')
    row.succeeded('read', 1)
    row.failed('read', 'ETIMEDOUT')
    assert.equal(row.state, 'full')
    row.failed('read', 'ETIMEDOUT')
    assert.equal(row.state, 'slow')
    row.failed('write', 'ENOSPC')
    assert.equal(row.state, 'slow')
    row.failed('write', 'EIO')
    assert.deepEqual([row.state, row.reason], ['offline', 'writeFailed'])
    assert.throws(() => table.row(3), RangeError)
  })

  it('knows the percentiles of recent latencies within its resolution', () => {
    const row = DriveTable.create(1).row(0)
    for (let ms = 1; ms <= 100; ms++) row.succeeded('read', ms)
    const p95 = row.health.readP95Ms
    assert.ok(p95 >= 95 && p95 <= 95 * 1.27, String(p95))
    assert.equal(row.health.writeP95Ms, 0)
    for (let i = 0; i < 10; i++) row.decay()
    assert.equal(row.health.readP95Ms, 0)
    row.succeeded('write', 1e9)
    assert.ok(row.health.writeP95Ms > 1000)
  })
})
