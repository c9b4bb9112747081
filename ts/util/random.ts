/**
 * A seedable source of random numbers for simulations and tests: same seed, same sequence. Not for secrets.
 */

/** Uniform in [0, 1). */
export type Random = () => number

/** 128 bits of state (the sfc32 generator), filled from `seed` by a multiplicative mix. */
export function seededRandom(seed: number): Random {
  let a = Math.imul(seed, 0x9e3779b1) | 0
  let b = Math.imul(seed ^ 0x5bd1e995, 0x85ebca6b) | 0
  let c = Math.imul(seed ^ 0x1b873593, 0xc2b2ae35) | 0
  let counter = 1
  const next = (): number => {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum | 0
    return (sum >>> 0) / 0x100000000
  }
  for (let i = 0; i < 16; i++) next()
  return next
}

/** An integer in [0, limit). */
export function randomInteger(random: Random, limit: number): number {
  return Math.floor(random() * limit)
}
