/**
 * Drive patterns: how an operator names many drives in few words.
 *
 *   /mnt/disk{1...8}        eight directories; the range may be padded: {01...16}
 *   /a{1...2}/d{1...2}      a1/d1, a1/d2, a2/d1, a2/d2 (the last range turns fastest)
 *   /fast/a,/slow{1...3}    several patterns, separated by commas
 *
 * The order of the result is the order of the drives in the pool at first start; later starts may name them in any
 * order, since every drive knows its place.
 */
import { resolve } from 'node:path'

/** More drives than this in one list is taken for a slip of the pen. */
export const MAX_DRIVES = 1024

const RANGE = /\{([^{}]*)\}/

/** Expands one comma-separated list. Throws an Error that says which pattern is wrong and why. */
export function expandDrivePatterns(list: string): string[] {
  const paths: string[] = []
  for (const pattern of splitPatterns(list)) {
    for (const path of expandOne(pattern, MAX_DRIVES - paths.length)) paths.push(resolve(path))
  }
  const seen = new Set<string>()
  for (const path of paths) {
    if (seen.has(path)) throw new Error(`the drive ${path} is named twice`)
    seen.add(path)
  }
  return paths
}

function splitPatterns(list: string): string[] {
  const patterns = list.split(',').map((p) => p.trim())
  if (patterns.some((p) => p === '')) throw new Error('an empty drive name between commas')
  return patterns
}

function expandOne(pattern: string, room: number): string[] {
  const match = RANGE.exec(pattern)
  if (match === null) {
    if (/[{}]/.test(pattern)) throw new Error(`unbalanced brace in "${pattern}"`)
    if (room < 1) throw new Error(`more than ${String(MAX_DRIVES)} drives`)
    return [pattern]
  }
  const before = pattern.slice(0, match.index)
  const after = pattern.slice(match.index + match[0].length)
  const out: string[] = []
  for (const item of expandRange(match[1] ?? '', pattern)) {
    for (const path of expandOne(before + item + after, room - out.length)) out.push(path)
  }
  return out
}

function expandRange(body: string, pattern: string): string[] {
  const parts = /^(\d{1,6})\.\.\.(\d{1,6})$/.exec(body)
  if (parts === null) throw new Error(`"{${body}}" in "${pattern}" is not a range such as {1...8} or {01...16}`)
  const [from, to] = [parts[1] ?? '', parts[2] ?? '']
  const [first, last] = [Number(from), Number(to)]
  if (last < first) throw new Error(`the range {${body}} in "${pattern}" runs backwards`)
  if (last - first >= MAX_DRIVES) throw new Error(`more than ${String(MAX_DRIVES)} drives in "${pattern}"`)
  const width = from.startsWith('0') ? from.length : 0
  const out: string[] = []
  for (let i = first; i <= last; i++) out.push(String(i).padStart(width, '0'))
  return out
}
