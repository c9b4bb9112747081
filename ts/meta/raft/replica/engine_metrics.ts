/** Figures of a replicated engine, as a plain object for whoever shows them. */

/** Upper bounds of the buckets, in milliseconds; one more bucket holds what is longer. */
export const BOUNDS_MS: readonly number[] = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096]

export interface HistogramFigures {
  /** Observations by bucket: at most each bound of BOUNDS_MS, then the rest. Not cumulative. */
  buckets: number[]
  count: number
  sumMs: number
}

export class Histogram {
  readonly #figures: HistogramFigures = { buckets: new Array<number>(BOUNDS_MS.length + 1).fill(0), count: 0, sumMs: 0 }

  observe(ms: number): void {
    let at = 0
    while (at < BOUNDS_MS.length && ms > (BOUNDS_MS[at] as number)) at++
    this.#figures.buckets[at]!++
    this.#figures.count++
    this.#figures.sumMs += ms
  }

  figures(): HistogramFigures {
    return { ...this.#figures, buckets: [...this.#figures.buckets] }
  }
}

export interface PeerFigures {
  id: number
  lagEntries: number
  lagMs: number
}

export interface EngineMetrics {
  /** 1 while this node leads. */
  isLeader: number
  /** 1 while a leader is known. */
  hasLeader: number
  leader: number
  term: number
  committed: number
  applied: number
  lastIndex: number
  snapshotIndex: number
  /** On a leader, one for each other member. */
  peers: PeerFigures[]
  /** Elections that this node took part in as a candidate, and changes of the leader that it saw. */
  elections: number
  leaderChanges: number
  snapshotsSent: number
  snapshotsReceived: number
  snapshotBytesReceived: number
  queuedCommands: number
  batchesUnderWay: number
  queuedWrites: number
  queuedApplies: number
  waitingReads: number
  /** Of the log on the drive, and of what of it is in memory. */
  logBytes: number
  logBytesInMemory: number
  viewBytes: number
  /** Bytes of the last state that was sent to a follower. */
  lastSnapshotBytes: number
  writeMs: HistogramFigures
  readMs: HistogramFigures
  syncMs: HistogramFigures
}
