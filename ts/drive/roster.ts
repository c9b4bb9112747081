/**
 * Decides, from what was found at each configured path, what the drives are: a new cluster, a known one (perhaps with
 * drives missing or to be replaced), or a mistake to be refused. Pure.
 *
 * The order of the paths is the layout: path number i is position i % setSize of set i / setSize. A drive is accepted
 * only in its own place, so that paths given in another order, a drive moved from elsewhere or a copy of a
 * drive are noticed before anything is written.
 */
import { DRIVE_FORMAT_VERSION, type DriveFormat, type FoundFormat } from './format.js'

/** What was found at a configured path. */
export type FoundDrive = { path: string } & (
  | FoundFormat
  /** Another process serves it. */
  | { kind: 'locked' }
  /** The directory is not there. */
  | { kind: 'missing' }
  | { kind: 'unreadable'; detail: string }
  /** A blank directory that seems to be a mount point with nothing mounted on it. */
  | { kind: 'unmounted' }
)

export interface RosterOptions {
  /** Drives per set; 0 or absent: chosen by `defaultSetSize`. */
  setSize?: number | undefined
  /** Absent: chosen by `defaultParity`. */
  parity?: number | undefined
}

export interface RosterLayout {
  setCount: number
  setSize: number
  parity: number
}

export interface RosterPlace {
  path: string
  set: number
  position: number
  /** 'present': serves. 'blank': may be given this place as a replacement. 'out': see `reason`. */
  state: 'present' | 'blank' | 'out'
  /** Of a present drive. */
  format?: DriveFormat
  /** One of the two copies of format.json has to be rewritten. */
  formatDamaged: boolean
  /** Why it is out, for the operator. */
  reason: string
}

export type RosterDecision =
  /** All drives are blank (or were left so by a first start that was cut short: `clusterId` of that one). */
  | { kind: 'initialise'; layout: RosterLayout; clusterId: string | undefined; known: (DriveFormat | undefined)[] }
  | { kind: 'open'; layout: RosterLayout; clusterId: string; places: RosterPlace[] }
  | { kind: 'refuse'; problems: string[] }

/** The largest divisor of the number of drives from 2 to 16; 1 for one drive. A prime above 16 has none: undefined. */
export function defaultSetSize(drives: number): number | undefined {
  if (drives === 1) return 1
  for (let size = 16; size >= 2; size--) if (drives % size === 0) return size
  return undefined
}

export function defaultParity(setSize: number): number {
  if (setSize <= 1) return 0
  if (setSize <= 3) return 1
  if (setSize <= 5) return 2
  return setSize <= 7 ? 3 : 4
}

export function decideRoster(found: readonly FoundDrive[], options: RosterOptions = {}): RosterDecision {
  const problems = [...repeated(found), ...unusable(found)]
  if (problems.length > 0) return { kind: 'refuse', problems }
  const formats = found.flatMap((drive) => drive.kind === 'format' ? [drive.format] : [])
  if (!formats.some((format) => format.state === 'member')) return decideNew(found, options)
  return decideKnown(found, options)
}

function decideNew(found: readonly FoundDrive[], options: RosterOptions): RosterDecision {
  const layout = layoutFor(found.length, options)
  if (typeof layout === 'string') return { kind: 'refuse', problems: [layout] }
  const known = found.map((drive) => drive.kind === 'format' ? drive.format : undefined)
  const clusterIds = new Set(known.flatMap((format) => format === undefined ? [] : [format.clusterId]))
  const problems: string[] = []
  for (const drive of found) {
    if (drive.kind === 'blank' || drive.kind === 'format') continue
    problems.push(`${drive.path}: ${describe(drive)}; a new cluster is made only when every drive is there and blank`)
  }
  if (problems.length > 0) return { kind: 'refuse', problems }
  const [clusterId] = clusterIds
  // Leftovers of one interrupted first start in their own places go on; anything else is made anew.
  const same = clusterIds.size === 1 && known.every((format, index) => format === undefined ||
    (placeOf(index, layout.setSize) === placeName(format) && sameLayout(format, layout)))
  return same ? { kind: 'initialise', layout, clusterId, known }
    : { kind: 'initialise', layout, clusterId: undefined, known: found.map(() => undefined) }
}

function decideKnown(found: readonly FoundDrive[], options: RosterOptions): RosterDecision {
  const reference = referenceFormat(found)
  if (reference === undefined) return { kind: 'refuse', problems: mixedClusters(found) }
  const { clusterId, setCount, setSize, parity } = reference
  const layout: RosterLayout = { setCount, setSize, parity }
  const problems = [...against(found, reference), ...configured(found.length, layout, options)]
  if (problems.length > 0) return { kind: 'refuse', problems }
  const places = found.map((drive, index): RosterPlace => {
    const set = Math.floor(index / setSize)
    const place = { path: drive.path, set, position: index % setSize, formatDamaged: false }
    if (drive.kind === 'format') {
      return { ...place, state: 'present', format: drive.format, formatDamaged: drive.damaged, reason: '' }
    }
    return { ...place, state: drive.kind === 'blank' ? 'blank' : 'out', reason: describe(drive) }
  })
  for (let set = 0; set < setCount; set++) {
    const present = places.filter((place) => place.set === set && place.state === 'present').length
    if (present >= setSize - parity) continue
    const out = places.filter((place) => place.set === set && place.state !== 'present')
    const reasons = out.map((place) => `${place.path} (${place.reason})`).join(', ')
    const needed = `set ${String(set)}: expected at least ${String(setSize - parity)} of its ${String(setSize)} drives`
    problems.push(`${needed}, found ${String(present)}; not usable: ${reasons}`)
  }
  return problems.length > 0 ? { kind: 'refuse', problems } : { kind: 'open', layout, clusterId, places }
}

/** A path given twice, or one drive found at two paths. */
function repeated(found: readonly FoundDrive[]): string[] {
  const problems: string[] = []
  const byPath = new Set<string>()
  const byDrive = new Map<string, string>()
  for (const drive of found) {
    if (byPath.has(drive.path)) problems.push(`${drive.path}: given twice; each drive has a path of its own`)
    else if (drive.kind === 'format') {
      const { driveId } = drive.format
      const other = byDrive.get(driveId)
      if (other !== undefined) problems.push(`${drive.path}: holds the same drive as ${other} (drive id ${driveId})`)
      byDrive.set(driveId, drive.path)
    }
    byPath.add(drive.path)
  }
  return problems
}

/** What no start may go on with, whatever the other drives say. */
function unusable(found: readonly FoundDrive[]): string[] {
  return found.flatMap((drive) => {
    if (drive.kind === 'locked') return [`${drive.path}: ${describe(drive)}; stop that server first`]
    if (drive.kind === 'newer') return [`${drive.path}: ${describe(drive)}; use the newer version`]
    return []
  })
}

/** The format that most drives agree with; undefined when two clusters have equally many. */
function referenceFormat(found: readonly FoundDrive[]): DriveFormat | undefined {
  const formats = found.flatMap((drive) => drive.kind === 'format' ? [drive.format] : [])
  const members = formats.filter((format) => format.state === 'member')
  const counts = new Map<string, number>()
  for (const { clusterId } of members) counts.set(clusterId, (counts.get(clusterId) ?? 0) + 1)
  const most = Math.max(...counts.values())
  const leaders = [...counts].filter(([, count]) => count === most)
  return leaders.length === 1 ? members.find((format) => format.clusterId === leaders[0]?.[0]) : undefined
}

function mixedClusters(found: readonly FoundDrive[]): string[] {
  return found.flatMap((drive) =>
    drive.kind === 'format'
      ? [
          `${drive.path}: belongs to cluster ${drive.format.clusterId}; the drives given belong to different clusters`,
        ]
      : [],
  )
}

/** Every drive that does not belong where it was found. */
function against(found: readonly FoundDrive[], reference: DriveFormat): string[] {
  const { setSize } = reference
  return found.flatMap((drive, index) => {
    if (drive.kind !== 'format') return []
    const { format, path } = drive
    if (format.clusterId !== reference.clusterId) {
      return [`${path}: expected a drive of cluster ${reference.clusterId}, found one of cluster ${format.clusterId}`]
    }
    if (!sameLayout(format, reference)) {
      return [`${path}: expected the layout ${layoutName(reference)}, its format.json says ${layoutName(format)}`]
    }
    const expected = placeOf(index, setSize)
    if (expected === placeName(format)) return []
    const own = found[format.set * setSize + format.position]?.path ?? 'no path given'
    return [
      `${path}: expected ${expected}, found the drive of ${placeName(format)}, whose place in the configuration is ${own}`,
    ]
  })
}

/** What the configuration says against what the cluster is. */
function configured(drives: number, layout: RosterLayout, options: RosterOptions): string[] {
  const problems: string[] = []
  const expected = layout.setCount * layout.setSize
  if (drives !== expected)
    problems.push(`expected ${String(expected)} drives of this cluster, ${String(drives)} are configured`)
  for (const key of ['setSize', 'parity'] as const) {
    const value = options[key]
    if (value === undefined || (key === 'setSize' && value === 0) || value === layout[key]) continue
    problems.push(
      `${key === 'setSize' ? 'set-size' : key}: this cluster was made with ${String(layout[key])}, given ${String(value)}`,
    )
  }
  return problems
}

function layoutFor(drives: number, options: RosterOptions): RosterLayout | string {
  if (drives === 0) return 'no drives are configured'
  const setSize = options.setSize === undefined || options.setSize === 0 ? defaultSetSize(drives) : options.setSize
  if (setSize === undefined)
    return `${String(drives)} drives cannot be divided into sets of 2 to 16; add or leave out some`
  if (setSize < 1 || setSize > 16 || drives % setSize !== 0 || (setSize === 1 && drives > 1)) {
    return `set-size: expected a divisor of ${String(drives)} from 2 to 16, given ${String(setSize)}`
  }
  const parity = options.parity ?? defaultParity(setSize)
  if (parity < 0 || parity * 2 > setSize) {
    return `parity: expected 0 to ${String(Math.floor(setSize / 2))} for sets of ${String(setSize)} drives, given ${String(parity)}`
  }
  return { setCount: drives / setSize, setSize, parity }
}

function describe(drive: FoundDrive): string {
  switch (drive.kind) {
    case 'format':
      return `the drive of ${placeName(drive.format)} of cluster ${drive.format.clusterId}`
    case 'blank':
      return 'blank'
    case 'newer':
      return `drive format ${String(drive.version)}, this version knows up to ${String(DRIVE_FORMAT_VERSION)}`
    case 'damaged':
      return `damaged: ${drive.detail}`
    case 'locked':
      return 'locked by a running server'
    case 'missing':
      return 'the directory does not exist'
    case 'unreadable':
      return `cannot be read: ${drive.detail}`
    case 'unmounted':
      return 'blank, and seems to be a mount point with nothing mounted on it'
  }
}

function placeOf(index: number, setSize: number): string {
  return `set ${String(Math.floor(index / setSize))} position ${String(index % setSize)}`
}

function placeName(format: DriveFormat): string {
  return `set ${String(format.set)} position ${String(format.position)}`
}

function sameLayout(a: RosterLayout, b: RosterLayout): boolean {
  return a.setCount === b.setCount && a.setSize === b.setSize && a.parity === b.parity
}

function layoutName(layout: RosterLayout): string {
  const { setCount, setSize, parity } = layout
  return `${String(setCount)} x ${String(setSize)} drives, parity ${String(parity)}`
}
