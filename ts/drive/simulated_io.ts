/**
 * DriveIo over a SimulatedDisk: one process's connection to a simulated drive, with threads, deadlines and faults.
 *
 *   const disk = new SimulatedDisk()
 *   const drive = new SimulatedDrive(disk, { random: seededRandom(7) })
 *   const io = drive.connect()          // one per process life
 *   drive.powerCut()                    // what io had in flight rejects with ESHUTDOWN, and io is dead for ever
 *   const again = drive.connect()       // sees what the cut left
 *
 * Model: up to `threads` batches are in progress at a time; which of them takes the next step is drawn from `random`.
 * One step is one operation, taken in its own turn of the event loop, so that a cut (from `beforeOperation`, which
 * is called before every one) can fall between any two operations of any batches. With the same seed and the same
 * submissions the order is the same.
 *
 * A hung operation keeps its thread until the fault is removed, and then goes on, even past its deadline, as in life.
 * Deadlines use the injected timer, so that tests may run on virtual time.
 */
import {
  type DriveIo, type DriveSpace, type FileHandle, IoError, type IoOp, type IoResult, isDrivePath, LAST_OPENED,
  type RunOptions,
} from './io.js'
import { type SimulatedDisk, type SimulatedFile } from './simulated_disk.js'
import type { Timer } from '../util/awake_timer.js'
import { randomInteger, seededRandom, type Random } from '../util/random.js'

export { SimulatedDisk } from './simulated_disk.js'

export const realTimer: Timer = (fire, ms) => {
  const timer = setTimeout(fire, ms)
  return () => { clearTimeout(timer) }
}

export interface FaultRule {
  /** Which operations; all when absent. */
  op?: IoOp['op'] | readonly IoOp['op'][]
  /** Which files: the path given to `open` for operations on a handle. All when absent. */
  path?: string | RegExp
  /** Only these batches, when given. */
  background?: boolean
  /** Skips this many matches first. */
  after?: number
  /** Removes itself after this many times; Infinity by default. */
  times?: number
  /** 0..1, 1 by default; drawn from the drive's random source. */
  probability?: number
  /** `error`: the errno name. `hang`: until the rule is removed. `slowMs`: a delay, then the operation. */
  fault: { error: string } | { hang: true } | { slowMs: number }
}

export interface SimulatedDriveOptions {
  random?: Random
  timer?: Timer
  /** Batches in progress at a time (default 2). */
  threads?: number
  /** Batches waiting at most, per queue (default 256): beyond it EAGAIN. */
  queueLength?: number
  /** Calls `run` in a later turn: the event loop's by default, or a simulation's. */
  turn?: (run: () => void) => void
}

interface ActiveRule extends FaultRule {
  matched: number
  used: number
  waiting: (() => void)[]
}

/** One simulated drive: the medium, its faults, and the switches for whole-drive conditions. */
export class SimulatedDrive {
  readonly disk: SimulatedDisk
  readonly random: Random
  readonly timer: Timer
  readonly threads: number
  readonly queueLength: number
  readonly turn: (run: () => void) => void
  /** Every change fails with EROFS. */
  readOnly = false
  /** Paths are not there (ENOENT), open files fail with EIO. */
  missing = false
  /** `direct: true` fails with EINVAL, as on a file system without O_DIRECT. */
  refuseDirect = false
  /** Called before each operation; may cut the power of this and other drives: the operation is then not done. */
  beforeOperation: ((op: IoOp) => void) | undefined
  /** Operations done since the start. */
  operations = 0
  #rules: ActiveRule[] = []
  #connections = new Set<SimulatedIo>()
  lockedBy: SimulatedIo | undefined

  constructor(disk: SimulatedDisk, options: SimulatedDriveOptions = {}) {
    this.disk = disk
    this.random = options.random ?? seededRandom(1)
    this.timer = options.timer ?? realTimer
    this.threads = options.threads ?? 2
    this.queueLength = options.queueLength ?? 256
    this.turn = options.turn ?? ((run): void => void setImmediate(run))
  }

  connect(): SimulatedIo {
    const io = new SimulatedIo(this)
    this.#connections.add(io)
    return io
  }

  /** Adds a fault; the returned function removes it and lets hung operations go on. */
  addFault(rule: FaultRule): () => void {
    const active: ActiveRule = { ...rule, matched: 0, used: 0, waiting: [] }
    this.#rules.push(active)
    return () => {
      this.#rules = this.#rules.filter((other) => other !== active)
      for (const wake of active.waiting.splice(0)) wake()
    }
  }

  /** Some fault has been added and not been removed. */
  get faulty(): boolean {
    return this.#rules.length > 0
  }

  /** The process is killed: its connections die, everything live stays. */
  kill(): void {
    for (const io of this.#connections) io.die()
    this.#connections.clear()
    this.lockedBy = undefined
  }

  /** The power is cut: connections die, and of what was not synced a random subset stays. */
  powerCut(): void {
    this.kill()
    this.disk.powerCut(this.random)
  }

  /** The fault that strikes this operation, if any. */
  faultFor(op: IoOp, path: string, background: boolean): ActiveRule | undefined {
    for (const rule of this.#rules) {
      if (
        rule.op !== undefined &&
        !(typeof rule.op === 'string' ? rule.op === op.op : rule.op.includes(op.op))
      )
        continue
      if (typeof rule.path === 'string' && rule.path !== path) continue
      if (rule.path instanceof RegExp && !rule.path.test(path)) continue
      if (rule.background !== undefined && rule.background !== background) continue
      if (rule.used >= (rule.times ?? Infinity)) continue
      if (rule.matched++ < (rule.after ?? 0)) continue
      if (rule.probability !== undefined && this.random() >= rule.probability) continue
      rule.used++
      return rule
    }
    return undefined
  }

  disconnected(io: SimulatedIo): void {
    this.#connections.delete(io)
    if (this.lockedBy === io) this.lockedBy = undefined
  }
}

interface OpenFile {
  file: SimulatedFile
  path: string
  writable: boolean
  direct: boolean
}

interface Batch {
  ops: readonly IoOp[]
  next: number
  results: IoResult[]
  opened: FileHandle[]
  background: boolean
  /** Settled towards the caller; the batch may still be running. */
  settled: boolean
  overdue: boolean
  /** Waits for a fault to pass; holds a thread but takes no steps. */
  blocked: boolean
  resolve: (results: IoResult[]) => void
  reject: (error: Error) => void
  cancelDeadline: (() => void) | undefined
}

let lastHandle = 0

export class SimulatedIo implements DriveIo {
  readonly #drive: SimulatedDrive
  readonly #files = new Map<FileHandle, OpenFile>()
  readonly #foreground: Batch[] = []
  readonly #background: Batch[] = []
  readonly #running: Batch[] = []
  #closing = false
  #dead = false
  #stepping = false
  #pending = 0
  #idle: (() => void)[] = []

  constructor(drive: SimulatedDrive) {
    this.#drive = drive
  }

  get pending(): number {
    return this.#pending
  }

  get openFiles(): number {
    return this.#files.size
  }

  run(ops: readonly IoOp[], options: RunOptions = {}): Promise<IoResult[]> {
    return new Promise((resolve, reject) => {
      const refused = this.#refusal(ops, options)
      if (refused !== undefined) {
        reject(refused)
        return
      }
      const batch: Batch = {
        ops, next: 0, results: [], opened: [], background: options.background === true, settled: false,
        overdue: false, blocked: false, resolve, reject, cancelDeadline: undefined,
      }
      if (options.deadlineMs !== undefined) {
        batch.cancelDeadline = this.#drive.timer(() => { this.#passDeadline(batch) }, options.deadlineMs)
      }
      this.#pending++
      ;(batch.background ? this.#background : this.#foreground).push(batch)
      this.#wake()
    })
  }

  /** Half of what could be answered at once is said to have to wait, and everything while a fault is in wait. */
  readNow(file: FileHandle, offset: number, into: Uint8Array): boolean {
    const open = this.#files.get(file)
    const quiet = !this.#dead && !this.#drive.missing && !this.#drive.faulty
    if (open === undefined || open.direct || !quiet || this.#drive.random() < 0.5) return false
    return read(open, offset, into) === into.length
  }

  lock(): Promise<boolean> {
    if (this.#drive.missing) return Promise.reject(new IoError('ENOENT', -1, 'lock'))
    this.#drive.lockedBy ??= this
    return Promise.resolve(this.#drive.lockedBy === this)
  }

  refresh(): Promise<void> {
    return this.#drive.missing ? Promise.reject(new IoError('ENOENT', -1, 'refresh')) : Promise.resolve()
  }

  async close(timeoutMs = 10_000): Promise<void> {
    this.#closing = true
    if (this.#pending > 0 && !this.#dead) {
      await new Promise<void>((resolve) => {
        const cancel = this.#drive.timer(resolve, timeoutMs)
        this.#idle.push(() => {
          cancel()
          resolve()
        })
      })
    }
    this.die()
    this.#drive.disconnected(this)
  }

  /** The process is gone: nothing more of it happens, and everything in flight rejects with ESHUTDOWN. */
  die(): void {
    if (this.#dead) return
    this.#dead = true
    this.#files.clear()
    const batches = [...this.#running.splice(0), ...this.#foreground.splice(0), ...this.#background.splice(0)]
    for (const batch of batches) this.#settle(batch, new IoError('ESHUTDOWN', batch.next, 'run'))
  }

  #refusal(ops: readonly IoOp[], options: RunOptions): IoError | undefined {
    if (this.#dead || this.#closing) return new IoError('ESHUTDOWN', -1, 'run')
    const queue = options.background === true ? this.#background : this.#foreground
    const { threads, queueLength } = this.#drive
    if (this.#running.length >= threads && this.#running.every((batch) => batch.overdue)) {
      return new IoError('ETIMEDOUT', -1, 'run', 'every thread of the drive is stuck')
    }
    if (queue.length >= queueLength) return new IoError('EAGAIN', -1, 'run')
    for (const [index, op] of ops.entries()) {
      for (const path of [...('path' in op ? [op.path] : []), ...(op.op === 'rename' ? [op.from, op.to] : [])]) {
        if (!isDrivePath(path)) return new IoError('EINVAL', index, op.op, `path ${path}`)
      }
    }
    return undefined
  }

  #passDeadline(batch: Batch): void {
    if (batch.settled) return
    const waiting = [this.#foreground, this.#background].find((queue) => queue.includes(batch))
    if (waiting !== undefined) {
      waiting.splice(waiting.indexOf(batch), 1)
      this.#settle(batch, new IoError('ETIMEDOUT', -1, 'run', 'waited in the queue'))
      return
    }
    batch.overdue = true
    this.#settle(batch, new IoError('ETIMEDOUT', batch.next, batch.ops[batch.next]?.op ?? 'run'), false)
  }

  /** Tells the caller. `ended` false: the batch still holds its thread. */
  #settle(batch: Batch, error: Error | undefined, ended = true): void {
    if (!batch.settled) {
      batch.settled = true
      batch.cancelDeadline?.()
      if (error === undefined) batch.resolve(batch.results)
      else batch.reject(error)
    }
    if (!ended) return
    this.#pending--
    if (this.#pending === 0) for (const resume of this.#idle.splice(0)) resume()
  }

  /** Gives free threads their next batch, and takes a step in the next turn. */
  #wake(): void {
    while (this.#running.length < this.#drive.threads) {
      const batch = this.#foreground.shift() ?? this.#background.shift()
      if (batch === undefined) break
      this.#running.push(batch)
    }
    if (this.#stepping || this.#dead || this.#running.length === 0) return
    this.#stepping = true
    this.#drive.turn(() => { this.#step() })
  }

  #step(): void {
    this.#stepping = false
    if (this.#dead) return
    const ready = this.#running.filter((batch) => !batch.blocked)
    const batch = ready[randomInteger(this.#drive.random, ready.length)]
    if (batch === undefined) return
    const op = batch.ops[batch.next]
    if (op === undefined) this.#finish(batch, undefined)
    else this.#takeStep(batch, op)
    this.#wake()
  }

  #takeStep(batch: Batch, op: IoOp): void {
    this.#drive.beforeOperation?.(op)
    if (this.#dead) return
    const rule = this.#drive.faultFor(op, this.#pathOf(batch, op), batch.background)
    if (rule === undefined) {
      this.#perform(batch, op, undefined)
    } else if ('error' in rule.fault) {
      this.#perform(batch, op, rule.fault.error)
    } else {
      batch.blocked = true
      const resume = (): void => {
        batch.blocked = false
        if (this.#dead) return
        this.#perform(batch, op, undefined)
        this.#wake()
      }
      if ('slowMs' in rule.fault) this.#drive.timer(resume, rule.fault.slowMs)
      else rule.waiting.push(resume)
    }
  }

  #perform(batch: Batch, op: IoOp, error: string | undefined): void {
    this.#drive.operations++
    try {
      if (error !== undefined) {
        if (op.op === 'sync') this.#drive.disk.failSync(this.#handle(batch, op.file).file, this.#drive.random)
        throw new IoError(error, batch.next, op.op, 'injected')
      }
      this.#checkDrive(op)
      batch.results.push(this.#execute(batch, op))
      batch.next++
    } catch (caught) {
      if (!(caught instanceof IoError)) throw caught
      this.#finish(batch, new IoError(caught.code, batch.next, op.op, this.#pathOf(batch, op)))
    }
  }

  #finish(batch: Batch, error: IoError | undefined): void {
    if (error !== undefined || batch.overdue) for (const handle of batch.opened) this.#files.delete(handle)
    this.#running.splice(this.#running.indexOf(batch), 1)
    this.#settle(batch, error)
  }

  #checkDrive(op: IoOp): void {
    const { missing, readOnly } = this.#drive
    if (missing) throw new IoError('file' in op && op.op !== 'close' ? 'EIO' : 'ENOENT', 0, op.op)
    if (!readOnly) return
    const changes = ['write', 'writeZeros', 'truncate', 'rename', 'unlink', 'makeDir', 'removeDir']
    if (changes.includes(op.op) || (op.op === 'open' && op.mode !== 'read')) throw new IoError('EROFS', 0, op.op)
  }

  #execute(batch: Batch, op: IoOp): IoResult {
    const { disk } = this.#drive
    switch (op.op) {
      case 'open': {
        if (op.direct === true && this.#drive.refuseDirect) throw new IoError('EINVAL', 0, 'open')
        const file = disk.open(op.path, op.mode)
        const handle = ++lastHandle
        this.#files.set(handle, { file, path: op.path, writable: op.mode !== 'read', direct: op.direct === true })
        batch.opened.push(handle)
        return handle
      }
      case 'read': return read(this.#handle(batch, op.file), op.offset, op.into)
      case 'write': return this.#write(this.#writable(batch, op.file, 'write').file, op.offset, op.from)
      case 'writeZeros': {
        const { file } = this.#writable(batch, op.file, 'writeZeros')
        return this.#write(file, op.offset, [new Uint8Array(op.size)])
      }
      case 'truncate': return void disk.truncate(this.#writable(batch, op.file, 'truncate').file, op.size)
      case 'sync': return void disk.sync(this.#handle(batch, op.file).file)
      // What is on its way to the medium may be there after a power cut or not, as without this.
      case 'writeBack': return void this.#handle(batch, op.file)
      case 'dropCache': {
        disk.dropCache(this.#handle(batch, op.file).file)
        return 1
      }
      case 'size': return this.#handle(batch, op.file).file.live.size
      case 'close': {
        this.#handle(batch, op.file)
        this.#files.delete(this.#resolve(batch, op.file))
        return undefined
      }
      case 'rename': return void disk.rename(op.from, op.to)
      case 'unlink': return void disk.unlink(op.path)
      case 'makeDir': return void disk.makeDir(op.path)
      case 'removeDir': return void disk.removeDir(op.path)
      case 'syncDir': return void disk.syncDir(op.path)
      case 'list': return disk.list(op.path)
      case 'stat': return disk.stat(op.path)
      case 'space': return spaceOf(disk)
    }
  }

  #write(file: SimulatedFile, offset: number, from: readonly Uint8Array[]): undefined {
    let at = offset
    for (const bytes of from) {
      this.#drive.disk.write(file, at, bytes)
      at += bytes.length
    }
  }

  #resolve(batch: Batch, file: FileHandle): FileHandle {
    return file === LAST_OPENED ? (batch.opened.at(-1) ?? 0) : file
  }

  #handle(batch: Batch, file: FileHandle): OpenFile {
    const open = this.#files.get(this.#resolve(batch, file))
    if (open === undefined) throw new IoError('EBADF', 0, 'file')
    return open
  }

  #writable(batch: Batch, file: FileHandle, op: string): OpenFile {
    const open = this.#handle(batch, file)
    if (!open.writable) throw new IoError('EBADF', 0, op)
    return open
  }

  #pathOf(batch: Batch, op: IoOp): string {
    if ('path' in op) return op.path
    if (op.op === 'rename') return op.to
    if ('file' in op) return this.#files.get(this.#resolve(batch, op.file))?.path ?? ''
    return ''
  }
}

function read(open: OpenFile, offset: number, into: Uint8Array): number {
  const bytes = open.direct ? open.file.medium() : open.file.live.view()
  const found = bytes.subarray(offset, offset + into.length)
  into.set(found)
  return found.length
}

function spaceOf(disk: SimulatedDisk): DriveSpace {
  const totalBytes = Number.isFinite(disk.capacityBytes) ? disk.capacityBytes : 2 ** 40
  return { totalBytes, freeBytes: Math.max(0, totalBytes - disk.usedBytes), freeFiles: 2 ** 20 }
}
