/**
 * Lists the shards of a drive, packed ones and files, in the order of their data ids, page by page.
 *
 * Neither the directories (by the last byte of the data id) nor the index (by its hash) are in that order. A scan of
 * both keeps the smallest `WINDOW` data ids after the wanted one, sorted; pages are served from that window
 * while the caller goes on where the last page ended, or soon goes back to where the window reaches. A shard put after
 * the scan appears in the next listing; a shard deleted meanwhile is left out when its size is asked for.
 */
import type { DataId, ShardListing } from './drive.js'
import type { FileStat, IoOp, IoResult } from './io.js'
import { isDead, SIZE_CLASSES, unpackLocation } from './segments/segment_file.js'
import type { SegmentStore } from './segments/segment_store.js'
import { dataIdName, parseDataIdName, shardPath } from './shard_file.js'

/** Names kept per scan: at most some 25 MB of heap, while a very full drive is listed. */
const WINDOW = 1 << 18
/** Age up to which a caller may go back in a window. */
const WINDOW_MS = 10_000
const DIRECTORIES_PER_BATCH = 16
const STATS_PER_BATCH = 128
/** Index entries looked at in one turn of the event loop. */
const ENTRIES_PER_TURN = 8192
/** Taken for the size of a packed shard larger than all size classes. */
const LARGE = 2 * (SIZE_CLASSES.at(-1) ?? 0)

export class ShardLister {
  readonly #run: (ops: readonly IoOp[]) => Promise<IoResult[]>
  readonly #segments: SegmentStore
  readonly #limit: number
  /** Sorted names that come next after `#last`. */
  #window: string[] = []
  #next = 0
  /** The window holds what follows this, as of then. */
  #from = ''
  #scannedAt = -Infinity
  /** Where the last page ended; undefined when there is nothing to go on with. */
  #last: string | undefined
  /** True when the window holds everything up to the end. */
  #complete = false
  #turn: Promise<unknown> = Promise.resolve()

  constructor(
    run: (ops: readonly IoOp[]) => Promise<IoResult[]>, segments: SegmentStore, windowLimit: number = WINDOW,
  ) {
    this.#run = run
    this.#segments = segments
    this.#limit = windowLimit
  }

  /** Listings of several callers follow each other; each that does not go on where the last one ended costs a scan. */
  list(after: DataId | undefined, limit: number): Promise<ShardListing[]> {
    const page = this.#turn.then(() => this.#page(after, limit))
    this.#turn = page.catch(() => undefined)
    return page
  }

  async #page(after: DataId | undefined, limit: number): Promise<ShardListing[]> {
    const from = after === undefined ? '' : dataIdName(after)
    if (after === undefined || (from !== this.#last && !this.#moveTo(from))) await this.#scan(from)
    const found: ShardListing[] = []
    while (found.length < limit) {
      if (this.#next >= this.#window.length) {
        if (this.#complete) break
        await this.#scan(this.#last ?? from)
        if (this.#window.length === 0) break
      }
      const names = this.#window.slice(this.#next, this.#next + Math.min(limit - found.length, STATS_PER_BATCH))
      this.#next += names.length
      this.#last = names.at(-1) ?? this.#last
      found.push(...(await this.#sizes(names)))
    }
    // The caller goes on from the last listing it got, which may lie before names that were deleted meanwhile.
    const last = found.at(-1)
    this.#last = last === undefined ? undefined : dataIdName(last.dataId)
    return found
  }

  /** Goes back or on to what follows `from`, where the window has that and is new. */
  #moveTo(from: string): boolean {
    const past = this.#window.at(-1) ?? ''
    if (from < this.#from || from >= past || performance.now() - this.#scannedAt > WINDOW_MS) return false
    let low = 0
    let high = this.#window.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#window[middle] ?? '') <= from) low = middle + 1
      else high = middle
    }
    this.#next = low
    this.#last = from
    return true
  }

  async #scan(after: string): Promise<void> {
    const directories = Array.from({ length: 256 }, (_, i) => `shards/${i.toString(16).padStart(2, '0')}`)
    const present = new Set((await this.#run([{ op: 'list', path: 'shards' }]))[0] as string[])
    let names: string[] = []
    /** What lies behind it does not fit into the window any more. */
    let last: string | undefined
    const trim = (): void => {
      names = [...new Set(names)].sort()
      if (names.length <= this.#limit) return
      names.length = this.#limit
      last = names.at(-1)
    }
    const add = (name: string): void => {
      if (name <= after || (last !== undefined && name > last)) return
      if (names.push(name) > this.#limit * 2) trim()
    }
    const wanted = directories.filter((path) => present.has(path.slice('shards/'.length)))
    for (let i = 0; i < wanted.length; i += DIRECTORIES_PER_BATCH) {
      const batch = wanted.slice(i, i + DIRECTORIES_PER_BATCH)
      const lists = await this.#run(batch.map((path): IoOp => ({ op: 'list', path }))) as string[][]
      for (const [at, list] of lists.entries()) {
        const directory = batch[at]?.slice(-2)
        // A name in the wrong directory could never be opened: it is not a shard.
        for (const name of list) {
          if (name.endsWith(directory ?? '') && parseDataIdName(name) !== undefined) add(name)
        }
      }
    }
    await this.#segments.loaded()
    let seen = 0
    for (const { id, location } of this.#segments.index.entries()) {
      if (++seen % ENTRIES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
      if (!isDead(location)) add(dataIdName(id))
    }
    trim()
    this.#window = names
    this.#from = after
    this.#scannedAt = performance.now()
    this.#next = 0
    this.#last = after === '' ? undefined : after
    this.#complete = last === undefined
  }

  /** Of a packed shard the size is what its size class says, at most. */
  async #sizes(names: readonly string[]): Promise<ShardListing[]> {
    const items = names.map((name) => {
      const dataId = parseDataIdName(name) ?? new Uint8Array(16)
      return { dataId, location: this.#segments.index.get(dataId) }
    })
    const isFile = (location: number): boolean => location === -1 || isDead(location)
    const files = items.filter(({ location }) => isFile(location))
    const stats = await this.#stat(files.map(({ dataId }) => shardPath(dataId)))
    const found: ShardListing[] = []
    let at = 0
    for (const { dataId, location } of items) {
      if (!isFile(location)) {
        found.push({ dataId, size: SIZE_CLASSES[unpackLocation(location).sizeClass] ?? LARGE })
        continue
      }
      const stat = stats[at++]
      if (stat?.kind === 'file') found.push({ dataId, size: stat.size })
    }
    return found
  }

  /** A batch stops at the first file that is gone; then each is asked for by itself. */
  async #stat(paths: readonly string[]): Promise<(FileStat | undefined)[]> {
    if (paths.length === 0) return []
    const ask = (path: string): IoOp => ({ op: 'stat', path })
    try {
      return await this.#run(paths.map(ask)) as FileStat[]
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    const found: (FileStat | undefined)[] = []
    for (const path of paths) {
      try {
        found.push((await this.#run([ask(path)]))[0] as FileStat)
      } catch (error) {
        if (!isMissing(error)) throw error
        found.push(undefined)
      }
    }
    return found
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'missing'
}
