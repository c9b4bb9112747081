/**
 * The medium of a simulated drive: a directory tree of which every file and every directory has a durable state
 * and an ordered list of operations that were not synced yet.
 *
 *   file:       durable bytes + unsynced writes and truncations   live bytes = what a buffered read gives
 *   directory:  durable names + unsynced name changes             live names = what `list` and `open` see
 *
 * A power cut keeps, of the unsynced operations, any subset: each write is torn at sectors of 512 bytes, each of
 * them kept or lost; the file size is one that the file had since its last sync (gaps read as zeros); each name
 * change is kept or lost by itself, but for a rename, which loses the old name only together with taking the new
 * one. A kill of the process keeps everything live.
 *
 * A failed sync leaves a random subset of the dirty sectors durable and forgets the rest: the page cache still shows
 * them, and later syncs succeed without them, as on Linux.
 *
 * Nothing here is asynchronous; `SimulatedIo` gives it time, threads and faults. Errors are IoError with op index 0.
 */
import { type FileStat, IoError } from './io.js'
import { randomInteger, type Random } from '../util/random.js'

export const SECTOR_SIZE = 512

type DataChange = { kind: 'write'; offset: number; bytes: Uint8Array } | { kind: 'truncate'; size: number }

interface NameChange {
  name: string
  /** undefined: the name is removed. */
  node: SimulatedNode | undefined
  /** A removal by rename: durable only if this addition is too. */
  onlyWith?: NameChange
  /** Decided at a power cut or by a sync of either directory. */
  durable: boolean
}

export class SimulatedFile {
  readonly kind = 'file'
  live: Bytes = new Bytes()
  durable: Bytes = new Bytes()
  unsynced: DataChange[] = []

  /** What a read of the medium gives once the dirty pages were written: without what a failed sync lost. */
  medium(): Uint8Array {
    if (this.unsynced.length === 0) return this.durable.view()
    const copy = this.durable.clone()
    for (const change of this.unsynced) applyChange(copy, change)
    return copy.view()
  }
}

export class SimulatedDirectory {
  readonly kind = 'directory'
  live: Map<string, SimulatedNode> = new Map()
  durable: Map<string, SimulatedNode> = new Map()
  unsynced: NameChange[] = []
}

export type SimulatedNode = SimulatedFile | SimulatedDirectory

/** Growable bytes; what lies beyond `size` is always zero. */
class Bytes {
  #data: Uint8Array = new Uint8Array(0)
  size = 0

  view(): Uint8Array {
    return this.#data.subarray(0, this.size)
  }

  write(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length
    if (end > this.#data.length) {
      const grown = new Uint8Array(Math.max(end, this.#data.length * 2))
      grown.set(this.view())
      this.#data = grown
    }
    this.#data.set(bytes, offset)
    this.size = Math.max(this.size, end)
  }

  resize(size: number): void {
    if (size < this.size) this.#data.fill(0, size, this.size)
    else if (size > this.size) this.write(size, new Uint8Array(0))
    this.size = size
  }

  clone(): Bytes {
    const copy = new Bytes()
    copy.write(0, this.view())
    return copy
  }
}

function applyChange(bytes: Bytes, change: DataChange): void {
  if (change.kind === 'truncate') bytes.resize(change.size)
  else bytes.write(change.offset, change.bytes)
}

function fail(code: string, op: string, path: string): IoError {
  return new IoError(code, 0, op, path)
}

export interface SimulatedDiskOptions {
  /** Sum of file sizes that fit; Infinity by default. Can be changed later. */
  capacityBytes?: number
}

export class SimulatedDisk {
  root: SimulatedDirectory = new SimulatedDirectory()
  capacityBytes: number
  #used = 0

  constructor(options: SimulatedDiskOptions = {}) {
    this.capacityBytes = options.capacityBytes ?? Infinity
  }

  /** Sum of the sizes of all live files. */
  get usedBytes(): number {
    return this.#used
  }

  // Names. Paths are relative; '' and '.' mean the root.

  lookUp(path: string): SimulatedNode | undefined {
    let node: SimulatedNode = this.root
    for (const name of namesOf(path)) {
      if (node.kind !== 'directory') return undefined
      const next = node.live.get(name)
      if (next === undefined) return undefined
      node = next
    }
    return node
  }

  directory(path: string, op: string): SimulatedDirectory {
    const node = this.lookUp(path)
    if (node === undefined) throw fail('ENOENT', op, path)
    if (node.kind !== 'directory') throw fail('ENOTDIR', op, path)
    return node
  }

  open(path: string, mode: 'read' | 'write' | 'create'): SimulatedFile {
    const found = this.lookUp(path)
    if (mode !== 'create') {
      if (found === undefined) throw fail('ENOENT', 'open', path)
      if (found.kind !== 'file') throw fail('EISDIR', 'open', path)
      return found
    }
    if (found !== undefined) throw fail('EEXIST', 'open', path)
    const [parent, name] = this.#parent(path, 'open')
    const file = new SimulatedFile()
    change(parent, name, file)
    return file
  }

  makeDir(path: string): void {
    const found = this.lookUp(path)
    if (found?.kind === 'directory') return
    if (found !== undefined) throw fail('EEXIST', 'makeDir', path)
    const [parent, name] = this.#parent(path, 'makeDir')
    change(parent, name, new SimulatedDirectory())
  }

  removeDir(path: string): void {
    if (this.directory(path, 'removeDir').live.size > 0) throw fail('ENOTEMPTY', 'removeDir', path)
    const [parent, name] = this.#parent(path, 'removeDir')
    change(parent, name, undefined)
  }

  unlink(path: string): void {
    const found = this.lookUp(path)
    if (found === undefined) {
      const names = namesOf(path)
      const above = names.map((_, count) => this.lookUp(names.slice(0, count).join('/')))
      if (above.some((node) => node?.kind === 'file')) throw fail('ENOTDIR', 'unlink', path)
      return
    }
    if (found.kind !== 'file') throw fail('EISDIR', 'unlink', path)
    const [parent, name] = this.#parent(path, 'unlink')
    change(parent, name, undefined)
    this.#used -= found.live.size
  }

  rename(from: string, to: string): void {
    const node = this.lookUp(from)
    if (node === undefined) throw fail('ENOENT', 'rename', from)
    const target = this.lookUp(to)
    if (target === node) return
    if (target?.kind === 'directory') throw fail('EISDIR', 'rename', to)
    if (target !== undefined && node.kind === 'directory') throw fail('ENOTDIR', 'rename', to)
    const [fromParent, fromName] = this.#parent(from, 'rename')
    const [toParent, toName] = this.#parent(to, 'rename')
    if (target !== undefined) this.#used -= target.live.size
    const added = change(toParent, toName, node)
    change(fromParent, fromName, undefined, added)
  }

  syncDir(path: string): void {
    const directory = this.directory(path, 'syncDir')
    for (const item of directory.unsynced) {
      item.durable = true
      if (item.onlyWith !== undefined) item.onlyWith.durable = true
    }
    settleNames(directory)
  }

  list(path: string): string[] {
    return [...this.directory(path, 'list').live.keys()]
  }

  stat(path: string): FileStat {
    const node = this.lookUp(path)
    if (node === undefined) throw fail('ENOENT', 'stat', path)
    return { kind: node.kind, size: node.kind === 'file' ? node.live.size : 0 }
  }

  // Bytes.

  /** Writes what fits; throws ENOSPC after that. */
  write(file: SimulatedFile, offset: number, bytes: Uint8Array): void {
    const growth = Math.max(0, offset + bytes.length - file.live.size)
    const room = Math.max(0, this.capacityBytes - this.#used)
    const fits = growth <= room ? bytes.length : Math.max(0, bytes.length - (growth - room))
    if (fits > 0) {
      const sizeBefore = file.live.size
      // A copy, which slice() of a Buffer would not be: the caller may use its buffer again.
      const item: DataChange = { kind: 'write', offset, bytes: new Uint8Array(bytes.subarray(0, fits)) }
      file.live.write(offset, item.bytes)
      file.unsynced.push(item)
      this.#used += file.live.size - sizeBefore
    }
    if (fits < bytes.length) throw fail('ENOSPC', 'write', '')
  }

  truncate(file: SimulatedFile, size: number): void {
    this.#used += size - file.live.size
    file.live.resize(size)
    file.unsynced.push({ kind: 'truncate', size })
  }

  sync(file: SimulatedFile): void {
    for (const item of file.unsynced) applyChange(file.durable, item)
    file.unsynced = []
  }

  /** A sync that failed: some dirty sectors are durable, the others will never be. */
  failSync(file: SimulatedFile, random: Random): void {
    file.durable = tornImage(file, random)
    file.unsynced = []
  }

  /** Reads come from the medium from now on. */
  dropCache(file: SimulatedFile): void {
    const before = file.live.size
    file.live = new Bytes()
    file.live.write(0, file.medium())
    this.#used += file.live.size - before
  }

  // What tests do to it.

  /** Keeps an arbitrary subset of what was not synced; all the rest is gone. */
  powerCut(random: Random): void {
    const seen = new Set<SimulatedNode>()
    const decide = (node: SimulatedNode): void => {
      if (seen.has(node)) return
      seen.add(node)
      if (node.kind === 'file') {
        node.durable = tornImage(node, random)
        node.unsynced = []
        return
      }
      const keep = keepChance(random)
      for (const item of node.unsynced) {
        if (random() < keep) {
          item.durable = true
          if (item.onlyWith !== undefined) item.onlyWith.durable = true
        }
      }
      for (const child of [...node.live.values(), ...node.durable.values()]) decide(child)
      for (const item of node.unsynced) if (item.node !== undefined) decide(item.node)
    }
    decide(this.root)
    // Only now every name change is decided, also those that a rename from another directory decided.
    const settled = new Set<SimulatedDirectory>()
    const settle = (directory: SimulatedDirectory): void => {
      if (settled.has(directory)) return
      settled.add(directory)
      settleNames(directory)
      directory.unsynced = []
      directory.live = new Map(directory.durable)
      for (const child of directory.live.values()) if (child.kind === 'directory') settle(child)
    }
    settle(this.root)
    for (const { file } of this.files()) {
      file.live = file.durable.clone()
    }
    this.#used = this.files().reduce((sum, { file }) => sum + file.live.size, 0)
  }

  /** Every live file with its path, ordered by path. */
  files(): { path: string; file: SimulatedFile }[] {
    const found: { path: string; file: SimulatedFile }[] = []
    const walk = (directory: SimulatedDirectory, prefix: string): void => {
      for (const [name, node] of directory.live) {
        if (node.kind === 'file') found.push({ path: prefix + name, file: node })
        else walk(node, `${prefix}${name}/`)
      }
    }
    walk(this.root, '')
    return found.sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  /** The live bytes of a file (a copy). */
  contents(path: string): Uint8Array {
    return this.open(path, 'read').live.view().slice()
  }

  /** Puts a file with these bytes there, durable, whatever was there before; makes its directories. */
  place(path: string, bytes: Uint8Array): void {
    const names = namesOf(path)
    for (let i = 1; i < names.length; i++) {
      this.makeDir(names.slice(0, i).join('/'))
      this.syncDir(names.slice(0, i - 1).join('/'))
    }
    this.unlink(path)
    const file = this.open(path, 'create')
    file.live.write(0, bytes)
    file.durable.write(0, bytes)
    this.#used += bytes.length
    this.syncDir(names.slice(0, -1).join('/'))
  }

  /** Flips bits of one stored byte, on the medium and in the cache. */
  flip(path: string, offset: number, mask: number): void {
    const file = this.open(path, 'read')
    for (const bytes of [file.live.view(), file.durable.view()]) {
      if (offset < bytes.length) bytes[offset] = (bytes[offset] ?? 0) ^ mask
    }
    for (const item of file.unsynced) {
      if (item.kind !== 'write') continue
      const at = offset - item.offset
      if (at >= 0 && at < item.bytes.length) item.bytes[at] = (item.bytes[at] ?? 0) ^ mask
    }
  }

  /** Forgets everything: a blank replacement. */
  wipe(): void {
    this.root = new SimulatedDirectory()
    this.#used = 0
  }

  #parent(path: string, op: string): [SimulatedDirectory, string] {
    const names = namesOf(path)
    const name = names.pop()
    if (name === undefined) throw fail('EINVAL', op, path)
    return [this.directory(names.join('/'), op), name]
  }
}

function namesOf(path: string): string[] {
  return path === '' || path === '.' ? [] : path.split('/')
}

function change(
  directory: SimulatedDirectory, name: string, node: SimulatedNode | undefined, onlyWith?: NameChange,
): NameChange {
  if (node === undefined) directory.live.delete(name)
  else directory.live.set(name, node)
  const item: NameChange = { name, node, durable: false, ...(onlyWith === undefined ? {} : { onlyWith }) }
  directory.unsynced.push(item)
  return item
}

/** Applies the changes decided durable, in order; leaves the others pending. */
function settleNames(directory: SimulatedDirectory): void {
  const left: NameChange[] = []
  for (const item of directory.unsynced) {
    if (!item.durable) left.push(item)
    else if (item.node === undefined) directory.durable.delete(item.name)
    else directory.durable.set(item.name, item.node)
  }
  directory.unsynced = left
}

/** Cuts lose all, keep all, or keep some, so that extremes are tried as often as mixtures. */
function keepChance(random: Random): number {
  const kind = random()
  return kind < 0.2 ? 0 : kind < 0.4 ? 1 : random()
}

/** The durable bytes plus a random subset of the sectors of the unsynced writes. */
function tornImage(file: SimulatedFile, random: Random): Bytes {
  if (file.unsynced.length === 0) return file.durable
  const image = file.durable.clone()
  const sizes = [image.size]
  const keep = keepChance(random)
  let size = image.size
  for (const item of file.unsynced) {
    if (item.kind === 'truncate') {
      size = item.size
      if (random() < keep) image.resize(size)
    } else {
      size = Math.max(size, item.offset + item.bytes.length)
      for (const [from, to] of sectorsOf(item.offset, item.bytes.length)) {
        if (random() < keep) image.write(from, item.bytes.subarray(from - item.offset, to - item.offset))
      }
    }
    sizes.push(size)
  }
  image.resize(sizes[keep === 1 ? sizes.length - 1 : randomInteger(random, sizes.length)] ?? image.size)
  return image
}

function* sectorsOf(offset: number, length: number): Iterable<[number, number]> {
  const end = offset + length
  for (let from = offset; from < end;) {
    const to = Math.min(end, (Math.floor(from / SECTOR_SIZE) + 1) * SECTOR_SIZE)
    yield [from, to]
    from = to
  }
}
