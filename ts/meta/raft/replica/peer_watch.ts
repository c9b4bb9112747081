/** What a node knows of the members of its group, over time: how far they are, and how often leaders change. */
import type { PeerProgress, PeerStatus } from '../../engine.js'
import type { NodeRecord } from '../../schema.js'
import type { ConfState, NodeId } from '../core/types.js'
import type { Clock } from '../host/environment.js'
import type { RaftHost } from '../host/host.js'
import type { PeerFigures } from './engine_metrics.js'

/** Samples of the commit index: some seconds. Who is further behind keeps the moment that was found before. */
const MAX_COMMITS = 256

const states = { StateProbe: 'probe', StateReplicate: 'replicate', StateSnapshot: 'snapshot' } as const

type Watched = Pick<RaftHost, 'status' | 'members'>

export class PeerWatch {
  elections = 0
  leaderChanges = 0
  readonly #host: Watched
  readonly #clock: Clock
  #leader: NodeId = 0
  #candidateIn = 0
  /** What was committed when, oldest first. */
  #commits: { at: number; commit: number }[] = []
  /** The latest of those moments whose commits each follower has by now. */
  readonly #caughtUpAt = new Map<NodeId, number>()

  constructor(host: Watched, clock: Clock) {
    this.#host = host
    this.#clock = clock
  }

  /** True when a leader is known that was not before. */
  roleChanged(): boolean {
    const { softState, hardState } = this.#host.status()
    if (softState.state === 'StateCandidate' && this.#candidateIn !== hardState.term) {
      this.#candidateIn = hardState.term
      this.elections++
    }
    const changed = softState.lead !== this.#leader
    this.#leader = softState.lead
    if (!changed || softState.lead === 0) return false
    this.leaderChanges++
    return true
  }

  /** To be called every few dozen milliseconds. */
  sample(): void {
    const now = this.#clock.now()
    const { progress, hardState } = this.#host.status()
    if (progress.size === 0) {
      this.#commits = []
      this.#caughtUpAt.clear()
      return
    }
    this.#commits.push({ at: now, commit: hardState.commit })
    if (this.#commits.length > MAX_COMMITS) this.#commits.splice(0, MAX_COMMITS >> 1)
    for (const id of this.#caughtUpAt.keys()) if (!progress.has(id)) this.#caughtUpAt.delete(id)
    for (const [id, { match }] of progress) {
      const at = this.#commits.findLast(({ commit }) => commit <= match)?.at
      if (at !== undefined) this.#caughtUpAt.set(id, at)
      else if (!this.#caughtUpAt.has(id)) this.#caughtUpAt.set(id, now)
    }
  }

  /** Others, on a leader only. */
  figures(): PeerFigures[] {
    const { progress, id: self } = this.#host.status()
    return [...progress.keys()].filter((id) => id !== self).map((id) => {
      const { lagEntries, lagMs } = this.#progress(id) as PeerProgress
      return { id, lagEntries, lagMs }
    })
  }

  peers(nodes: readonly NodeRecord[]): PeerStatus[] {
    const members = this.#host.members
    const ids = new Set([members.voters, members.votersOutgoing, members.learners, members.learnersNext].flat())
    return [...ids].sort((a, b) => a - b).map((id): PeerStatus => {
      const node = nodes.find((one) => one.id === id)
      const progress = this.#progress(id)
      const named = { name: node?.name ?? '', address: node?.address ?? '' }
      return { id, ...named, role: roleOf(members, id), ...(progress !== undefined && { progress }) }
    })
  }

  /** The voter that lacks least, to hand over to. */
  successor(): NodeId | undefined {
    const { progress, id: self } = this.#host.status()
    const { voters } = this.#host.members
    let best: NodeId | undefined
    for (const [id, { match, recentActive }] of progress) {
      if (id === self || !recentActive || !voters.includes(id)) continue
      if (best === undefined || match > (progress.get(best)?.match ?? 0)) best = id
    }
    return best
  }

  #progress(id: NodeId): PeerProgress | undefined {
    const { progress, hardState } = this.#host.status()
    const found = progress.get(id)
    if (found === undefined) return undefined
    const lagEntries = Math.max(0, hardState.commit - found.match)
    const lagMs = lagEntries === 0 ? 0 : this.#clock.now() - (this.#caughtUpAt.get(id) ?? this.#clock.now())
    const own = id === this.#host.status().id
    return { match: found.match, lagEntries, lagMs, state: states[found.state], active: own || found.recentActive }
  }
}

function roleOf(members: ConfState, id: NodeId): PeerStatus['role'] {
  if (members.voters.includes(id)) return 'voter'
  return members.votersOutgoing.includes(id) ? 'outgoing' : 'learner'
}
