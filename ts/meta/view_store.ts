/**
 * What a metadata view is kept in: an ordered map from raw keys to raw values. Two implementations: LMDB
 * (`lmdb_view.ts`) and memory with the power cuts of a simulation (`simulated_view.ts`). Nothing here knows what
 * the bytes mean; checksums and the chain are checked above (`chain.ts`).
 */
export interface RawEntry {
  key: Buffer
  value: Buffer
}

/** One consistent state of the view. Buffers that it gives belong to the caller. */
export interface ViewSnapshot {
  get(key: Buffer): Buffer | undefined
  /** Entries with key >= from, ascending. Stop by ending the iteration. */
  ascend(from: Buffer): Iterable<RawEntry>
  /** The smallest key >= from. */
  keyFrom(from: Buffer): Buffer | undefined
  /** The greatest entry with a key < `key`. */
  before(key: Buffer): RawEntry | undefined
  /** The two greatest entries with keys <= `key`, the greater one first. */
  lastTwo(key: Buffer): RawEntry[]
}

/** value undefined: the key is removed. */
export interface RawWrite {
  key: Buffer
  value: Buffer | undefined
}

export interface ViewStore extends ViewSnapshot {
  /**
   * Applies the writes in one transaction, visible to every reader when it returns, durable after the next
   * `flush`. Throws when anything went wrong: the store must then be closed and remade.
   */
  commit(writes: readonly RawWrite[]): void
  /**
   * Makes everything committed before the call durable. After a power cut the view is the one of the last flush
   * that resolved, or a later one. `position` is kept with it for `flushedPosition` after the next opening.
   */
  flush(position: number): Promise<void>
  /** Position given to the last flush that is durable; 0 when there was none. */
  readonly flushedPosition: number
  /** A snapshot that stays as it is until released. Hold it shortly: it keeps old pages from being used again. */
  snapshot(): ViewSnapshot & { release(): void }
  sizeBytes(): number
  /** Records of the newest state. */
  count(): number
  close(): Promise<void>
}
