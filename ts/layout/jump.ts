/**
 * Jump consistent hashing over an append-only list of places, each owned by a target. Stateless given the list.
 *
 * A target of weight w stands for round(w * placesPerUnit) places. More weight appends places, or takes those that
 * others hold too many of; less weight, or a target that goes, hands places to those that have least: places are never
 * taken out of the list. Jump hashing sends a key to a new place or leaves it, so more weight moves keys to that
 * target alone, and less weight moves that target's keys alone.
 *
 * Bounds: a target's places are its share of all, but for the rounding of weights to places and for what earlier
 * changes left uneven; keys spread evenly over places. `select` takes about ln(places) steps, and no allocation.
 */
import type { DataId } from '../drive/drive.js'
import { PlacementError } from './errors.js'
import type { Placement, Target } from './placement.js'
import { activeWeight, canonical } from './targets.js'
import { pointOf } from './table.js'

const MAX_PLACES = 2 ** 24

export class JumpPlacement implements Placement {
  readonly targets: readonly Target[]
  readonly placesPerUnit: number
  /** Owner of each place, in shared memory. Never written after construction. */
  readonly owners: Uint16Array

  private constructor(targets: readonly Target[], placesPerUnit: number, owners: readonly number[] | Uint16Array) {
    this.targets = targets
    this.placesPerUnit = placesPerUnit
    this.owners = new Uint16Array(new SharedArrayBuffer(2 * owners.length))
    this.owners.set(owners)
  }

  /** PlacementError 'badTarget', 'noTarget'. */
  static first(targets: readonly Target[], placesPerUnit = 1): JumpPlacement {
    return new JumpPlacement([], placesPerUnit, []).change(targets)
  }

  /** The placement after a change of targets. This one stays as it is. PlacementError 'badTarget', 'noTarget'. */
  change(targets: readonly Target[]): JumpPlacement {
    const next = canonical(targets)
    const before = this.#places(this.targets)
    const after = this.#places(next)
    const total = [...after.values()].reduce((sum, count) => sum + count, 0)
    if (total === 0) throw new PlacementError('noTarget', 'no target is active and has a weight')
    if (total > MAX_PLACES) throw new PlacementError('badTarget', `${String(total)} places`)
    const length = Math.max(this.owners.length, total)
    const shares = new Map<number, Share>()
    for (const set of new Set([...before.keys(), ...after.keys()])) {
      const [old, now] = [before.get(set) ?? 0, after.get(set) ?? 0]
      shares.set(set, { set, held: 0, quota: (now / total) * length, grows: now > old, falls: now < old })
    }
    const owners = Array.from(this.owners)
    for (const owner of owners) shareOf(shares, owner).held++
    gain(owners, length, shares)
    lose(owners, shares)
    return new JumpPlacement(next, this.placesPerUnit, owners)
  }

  #places(targets: readonly Target[]): Map<number, number> {
    return new Map(targets.map((target) => [target.set, Math.round(activeWeight(target) * this.placesPerUnit)]))
  }

  select(dataId: DataId): number {
    return this.owners[jump(pointOf(dataId), this.owners.length)] as number
  }
}

interface Share {
  set: number
  held: number
  /** Its share of all places, not rounded. */
  quota: number
  grows: boolean
  falls: boolean
}

function shareOf(shares: ReadonlyMap<number, Share>, set: number): Share {
  const share = shares.get(set)
  if (share === undefined) throw new PlacementError('badTable', `places of set ${String(set)}, which is no target`)
  return share
}

/** Appends places up to `length` for the targets that grow, and gives them what others hold too many of. */
function gain(owners: number[], length: number, shares: ReadonlyMap<number, Share>): void {
  const growing = [...shares.values()].filter((share) => share.grows)
  const hungriest = (): Share | undefined => {
    let most: Share | undefined
    for (const share of growing) if (most === undefined || lack(share) > lack(most)) most = share
    return most
  }
  while (owners.length < length) {
    const taker = hungriest()
    if (taker === undefined) throw new PlacementError('noTarget', 'nobody grows into the new places')
    taker.held++
    owners.push(taker.set)
  }
  for (let place = owners.length - 1; place >= 0; place--) {
    const taker = hungriest()
    if (taker === undefined || lack(taker) < 0.5) return
    const owner = shareOf(shares, owners[place] as number)
    if (owner.grows || lack(owner) > -0.5) continue
    hand(owners, place, owner, taker)
  }
}

/** Hands what falling targets hold too many of to those that are fullest least. */
function lose(owners: number[], shares: ReadonlyMap<number, Share>): void {
  const takers = [...shares.values()].filter((share) => share.quota > 0 && !share.falls)
  for (let place = owners.length - 1; place >= 0 && takers.length > 0; place--) {
    const owner = shareOf(shares, owners[place] as number)
    if (!owner.falls || lack(owner) > -0.5) continue
    const taker = takers.reduce((best, share) => (share.held / share.quota < best.held / best.quota ? share : best))
    hand(owners, place, owner, taker)
  }
}

function lack(share: Share): number {
  return share.quota - share.held
}

function hand(owners: number[], place: number, from: Share, to: Share): void {
  owners[place] = to.set
  from.held--
  to.held++
}

/**
 * Which of `places` a key falls on. For each count of places, a key moves to the newest place with a chance of
 * 1/places, else stays: so it jumps ahead to the next count at which it would move, drawn from the key.
 */
export function jump(key: number, places: number): number {
  let state = key
  let place = 0
  let next = 0
  while (next < places) {
    place = next
    state = (state + 0x9e3779b9) >>> 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    const draw = ((mixed ^ (mixed >>> 15)) >>> 0) + 1
    next = Math.floor((place + 1) * (4_294_967_296 / draw))
  }
  return place
}
