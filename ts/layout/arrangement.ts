/**
 * Divides drives into erasure sets so that the loss of one failure domain (a node, a rack) costs each set as few
 * drives as can be.
 */
import type { DriveNumber } from '../drive/drive.js'
import { PlacementError } from './errors.js'

export interface DomainDrive {
  number: DriveNumber
  /** Name of what fails together. */
  domain: string
}

/**
 * Sets of `setSize` drives, each in the order of its positions. No domain has more drives in one set than its drives
 * divided by the number of sets, rounded up, which is the least possible.
 *
 * PlacementError 'domains' when the drives do not divide into sets, or, with `survive`, when some set would have more
 * than `survive` drives in one domain.
 */
export function arrangeSets(
  drives: readonly DomainDrive[],
  setSize: number,
  survive: number = Infinity,
): DriveNumber[][] {
  if (!Number.isInteger(setSize) || setSize < 1 || setSize > 16)
    throw new PlacementError('domains', 'sets of 1 to 16')
  if (drives.length === 0 || drives.length % setSize !== 0) {
    throw new PlacementError(
      'domains',
      `${String(drives.length)} drives do not divide into sets of ${String(setSize)}`,
    )
  }
  if (new Set(drives.map((drive) => drive.number)).size !== drives.length) {
    throw new PlacementError('domains', 'a drive is named twice')
  }
  const sizes = new Map<string, number>()
  for (const { domain } of drives) sizes.set(domain, (sizes.get(domain) ?? 0) + 1)
  const count = drives.length / setSize
  for (const [domain, size] of sizes) {
    const most = Math.ceil(size / count)
    if (most > survive) {
      throw new PlacementError(
        'domains',
        `${domain} would hold ${String(most)} drives of a set, at most ${String(survive)} may be lost`,
      )
    }
  }
  const ordered = [...drives].sort((a, b) => {
    const bySize = (sizes.get(b.domain) ?? 0) - (sizes.get(a.domain) ?? 0)
    return bySize || (a.domain < b.domain ? -1 : a.domain > b.domain ? 1 : 0) || a.number - b.number
  })
  const sets = Array.from({ length: count }, (): DriveNumber[] => [])
  // Dealt like cards, domain after domain: consecutive drives of a domain fall into different sets.
  ordered.forEach((drive, i) => sets[i % count]?.push(drive.number))
  return sets
}
