/** Random histories of targets: adding, removing, re-weighting, changing states. */
import type { Target, TargetState } from '../../ts/layout/placement.js'
import type { Random } from '../../ts/util/random.js'
import { randomInteger } from '../../ts/util/random.js'

export interface Change {
  /** What kind of change leads to `targets`. */
  kind: 'add' | 'remove' | 'weight' | 'state'
  set: number
  targets: Target[]
}

export interface History {
  first: Target[]
  changes: Change[]
}

const states: TargetState[] = ['active', 'active', 'readOnly', 'draining', 'gone']

/** `most` targets at the start at most; weights of several scales, equal ones often. */
export function randomHistory(random: Random, most: number, length: number): History {
  const scale = [1, 10, 1000, 1e6][randomInteger(random, 4)] as number
  const equal = random() < 0.4
  const weight = (): number => (equal ? scale : 1 + randomInteger(random, scale * 10))
  let next = 1
  const add = (): Target => ({ set: (next += 1 + randomInteger(random, 3)), weight: weight(), state: 'active' })
  const first = Array.from({ length: 1 + randomInteger(random, most) }, add)
  let current = first
  const changes: Change[] = []
  while (changes.length < length) {
    const before = current
    const roll = random()
    const at = randomInteger(random, current.length)
    const target = current[at] as Target
    if (roll < 0.4 || current.length < 2) {
      const added = add()
      current = [...current, added]
      changes.push({ kind: 'add', set: added.set, targets: current })
    } else if (roll < 0.65) {
      current = current.filter((other) => other !== target)
      changes.push({ kind: 'remove', set: target.set, targets: current })
    } else {
      const kind = roll < 0.9 ? 'weight' : 'state'
      const state = states[randomInteger(random, states.length)] as TargetState
      const changed = kind === 'weight' ? { ...target, weight: weight() } : { ...target, state }
      current = current.map((other) => (other === target ? changed : other))
      changes.push({ kind, set: target.set, targets: current })
    }
    if (!current.some((each) => each.state === 'active')) {
      current = before
      changes.pop()
    }
  }
  return { first, changes }
}

export function shuffled<T>(random: Random, list: readonly T[]): T[] {
  const copy = [...list]
  for (let i = copy.length - 1; i > 0; i--) {
    const j = randomInteger(random, i + 1)
    const kept = copy[i] as T
    copy[i] = copy[j] as T
    copy[j] = kept
  }
  return copy
}
