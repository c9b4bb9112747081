/**
 * What a disk may hold after a power cut, rebuilt from a trace of the recorder (recorder.c).
 *
 * Model: a file is its synced bytes plus an ordered list of changes (writes, truncations) that no sync covers yet;
 * a directory is its synced names plus an ordered list of name changes. `cutAt` replays the trace up to a byte
 * offset and then lets chance decide: every unsynced write is kept, lost, or torn into any subset of its 512-byte
 * sectors; every name of a directory with unsynced changes ends as it was synced or after any of those changes.
 * Nothing else is ever lost: what a finished sync covered is there.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const HEADER_SIZE = 40
const SECTOR = 512

const CREATE = 1
const WRITE = 2
const WRITE_END = 3
const SYNC = 4
const SYNC_END = 5
const RENAME = 6
const UNLINK = 7
const MKDIR = 8
const RMDIR = 9
const TRUNCATE = 10

/** Draws an integer in 0..n-1. */
export type Draw = (n: number) => number

/** A small seedable generator (xorshift32), so that a failing cut can be drawn again. */
export function seededDraw(seed: number): Draw {
  let state = seed >>> 0 || 1
  return (n) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % n
  }
}

type Change =
  | { id: bigint; ended: boolean; kind: 'write'; offset: number; data: Buffer }
  | { id: bigint; ended: boolean; kind: 'truncate'; size: number }

interface FileNode {
  kind: 'file'
  synced: Buffer
  size: number
  pending: Change[]
}

interface NameChange {
  name: string
  node: Node | undefined
}

interface DirectoryNode {
  kind: 'directory'
  /** Names as every process sees them now, and as the medium surely has them. */
  now: Map<string, Node>
  synced: Map<string, Node>
  pending: NameChange[]
}

type Node = FileNode | DirectoryNode

interface SyncStarted {
  node: Node
  /** What the sync covers: changes that had ended when it began. */
  covers: Change[]
  names: NameChange[]
}

function newDirectory(): DirectoryNode {
  return { kind: 'directory', now: new Map(), synced: new Map(), pending: [] }
}

function applyChange(file: FileNode, offset: number, data: Uint8Array): void {
  const end = offset + data.length
  if (end > file.synced.length) {
    const grown = Buffer.alloc(Math.max(end, file.synced.length * 2))
    file.synced.copy(grown, 0, 0, file.size)
    file.synced = grown
  }
  if (offset > file.size) file.synced.fill(0, file.size, offset)
  file.synced.set(data, offset)
  file.size = Math.max(file.size, end)
}

function applyTruncate(file: FileNode, size: number): void {
  if (size < file.size) file.synced.fill(0, size, file.size)
  else if (size > file.size) applyChange(file, size, Buffer.alloc(0))
  file.size = size
}

/** One replay of a trace; use a new one for every cut. */
class Replay {
  readonly root: DirectoryNode = newDirectory()
  readonly #rootPath: string
  readonly #byInode = new Map<bigint, Node>()
  readonly #started = new Map<bigint, SyncStarted>()
  readonly #writing = new Map<bigint, { change: Change; file: FileNode; durable: boolean }>()

  constructor(trace: Trace) {
    this.#rootPath = trace.rootPath
    this.#byInode.set(trace.rootInode, this.root)
    for (const { name, inode } of trace.directories) {
      const node = this.#remember(inode, newDirectory())
      this.root.now.set(name, node)
      this.root.synced.set(name, node)
    }
  }

  record(
    type: number,
    flags: number,
    id: bigint,
    inode: bigint,
    offset: number,
    size: number,
    path: string,
    data: Buffer,
  ): void {
    const failed = (flags & 2) !== 0
    if (type === CREATE)
      this.#name(path, this.#remember(inode, { kind: 'file', synced: Buffer.alloc(0), size: 0, pending: [] }))
    else if (type === MKDIR) this.#name(path, this.#remember(inode, newDirectory()))
    else if (type === UNLINK || type === RMDIR) this.#name(path, undefined)
    else if (type === RENAME) {
      const [from = '', to = ''] = path.split('\0')
      const node = this.#find(from)
      this.#name(from, undefined)
      this.#name(to, node)
    } else if (type === TRUNCATE) this.#change(inode, { id, ended: true, kind: 'truncate', size })
    else if (type === WRITE) {
      const change: Change = { id, ended: false, kind: 'write', offset, data }
      const file = this.#change(inode, change)
      if (file !== undefined) this.#writing.set(id, { change, file, durable: (flags & 1) !== 0 })
    } else if (type === WRITE_END) this.#writeEnded(id, failed)
    else if (type === SYNC) this.#syncStarted(id, inode)
    else if (type === SYNC_END && !failed) this.#syncEnded(id)
  }

  #remember(inode: bigint, node: Node): Node {
    this.#byInode.set(inode, node)
    return node
  }

  #change(inode: bigint, change: Change): FileNode | undefined {
    const node = this.#byInode.get(inode)
    if (node?.kind !== 'file') return undefined
    node.pending.push(change)
    return node
  }

  #writeEnded(id: bigint, failed: boolean): void {
    const write = this.#writing.get(id)
    if (write === undefined) return
    this.#writing.delete(id)
    if (failed) return // may be on the medium in part: stays pending and not ended
    write.change.ended = true
    if (write.durable) this.#settle(write.file, [write.change])
  }

  #syncStarted(id: bigint, inode: bigint): void {
    const node = this.#byInode.get(inode)
    if (node === undefined) return
    const covers = node.kind === 'file' ? node.pending.filter((c) => c.ended) : []
    const names = node.kind === 'directory' ? [...node.pending] : []
    this.#started.set(id, { node, covers, names })
  }

  #syncEnded(id: bigint): void {
    const sync = this.#started.get(id)
    if (sync === undefined) return
    this.#started.delete(id)
    if (sync.node.kind === 'file') this.#settle(sync.node, sync.covers)
    else {
      const directory = sync.node
      const settled = new Set(sync.names)
      for (const change of directory.pending) if (settled.has(change)) setName(directory.synced, change)
      directory.pending = directory.pending.filter((c) => !settled.has(c))
    }
  }

  #settle(file: FileNode, changes: readonly Change[]): void {
    const settled = new Set(changes)
    for (const change of file.pending) {
      if (!settled.has(change)) continue
      if (change.kind === 'write') applyChange(file, change.offset, change.data)
      else applyTruncate(file, change.size)
    }
    file.pending = file.pending.filter((c) => !settled.has(c))
  }

  #relative(path: string): string[] {
    return path
      .slice(this.#rootPath.length)
      .split('/')
      .filter((name) => name !== '')
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.root
    for (const name of this.#relative(path))
      node = node?.kind === 'directory' ? node.now.get(name) : undefined
    return node
  }

  #name(path: string, node: Node | undefined): void {
    const directory = this.#find(dirname(path))
    if (directory?.kind !== 'directory')
      throw new Error(`the trace names ${path} in a directory it never made`)
    const change: NameChange = { name: path.slice(path.lastIndexOf('/') + 1), node }
    setName(directory.now, change)
    directory.pending.push(change)
  }
}

function setName(names: Map<string, Node>, change: NameChange): void {
  if (change.node === undefined) names.delete(change.name)
  else names.set(change.name, change.node)
}

/** Chance decides about every change that no sync covers. */
function survivingFile(file: FileNode, draw: Draw): Buffer {
  const copy: FileNode = {
    kind: 'file',
    synced: Buffer.from(file.synced.subarray(0, file.size)),
    size: file.size,
    pending: [],
  }
  const mood = draw(4) // all kept, all lost, mixed, mixed
  for (const change of file.pending) {
    const fate = mood < 2 ? mood : draw(3)
    if (fate === 1) continue
    if (change.kind === 'truncate') applyTruncate(copy, change.size)
    else if (fate === 0) applyChange(copy, change.offset, change.data)
    else tear(copy, change.offset, change.data, draw)
  }
  return copy.synced.subarray(0, copy.size)
}

function tear(file: FileNode, offset: number, data: Buffer, draw: Draw): void {
  for (let at = 0; at < data.length; ) {
    const sectorEnd = Math.min(data.length, at + SECTOR - ((offset + at) % SECTOR))
    if (draw(2) === 0) applyChange(file, offset + at, data.subarray(at, sectorEnd))
    at = sectorEnd
  }
}

function survivingNames(directory: DirectoryNode, draw: Draw): Map<string, Node> {
  const names = new Map(directory.synced)
  const choices = new Map<string, NameChange[]>()
  for (const change of directory.pending) choices.set(change.name, [...(choices.get(change.name) ?? []), change])
  for (const list of choices.values()) {
    const chosen = list[draw(list.length + 1)]
    if (chosen !== undefined) setName(names, chosen)
  }
  return names
}

function writeTree(directory: DirectoryNode, path: string, draw: Draw): void {
  mkdirSync(path, { recursive: true })
  for (const [name, node] of survivingNames(directory, draw)) {
    if (node.kind === 'directory') writeTree(node, join(path, name), draw)
    else writeFileSync(join(path, name), survivingFile(node, draw))
  }
}

export interface Trace {
  bytes: Buffer
  /** The directory the recorder watched, resolved, and its inode number. */
  rootPath: string
  rootInode: bigint
  /** Directories in the root that were there, durably, before the recording began. */
  directories: readonly { name: string; inode: bigint }[]
}

/** Writes into `target` a tree that a power cut at byte `cut` of the trace may have left. */
export function cutAt(trace: Trace, cut: number, target: string, draw: Draw): void {
  const replay = new Replay(trace)
  const { bytes } = trace
  for (let at = 0; at + HEADER_SIZE <= bytes.length; ) {
    const total = bytes.readUInt32LE(at)
    if (at + total > cut) break
    const pathSize = bytes.readUInt16LE(at + 6)
    const path = bytes.toString('utf8', at + HEADER_SIZE, at + HEADER_SIZE + pathSize)
    replay.record(
      bytes.readUInt8(at + 4),
      bytes.readUInt8(at + 5),
      bytes.readBigUInt64LE(at + 8),
      bytes.readBigUInt64LE(at + 16),
      Number(bytes.readBigUInt64LE(at + 24)),
      Number(bytes.readBigUInt64LE(at + 32)),
      path,
      bytes.subarray(at + HEADER_SIZE + pathSize, at + total),
    )
    at += total
  }
  writeTree(replay.root, target, draw)
}
