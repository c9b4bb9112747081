/**
 * The shapes of setting values, as zod schemas from the text an operator wrote (in a variable, a flag or YAML) to
 * the value the program uses. Each shape has one sentence that says what was expected.
 */
import { z } from 'zod'

/** host:port of a TCP listener. */
export interface HostPort {
  host: string
  /** 0: chosen by the system. */
  port: number
}

/** A shape: how to read a value, what to tell the operator was expected, and how to write it back. */
export interface Shape<T> {
  expected: string
  schema: z.ZodType<T>
  show(value: T): string
}

/** YAML gives numbers, booleans and lists where variables and flags give text: all are read as text first. */
const text = z
  .union([z.string(), z.number(), z.boolean(), z.array(z.union([z.string(), z.number()]))])
  .transform((v) => (Array.isArray(v) ? v.join(',') : String(v)).trim())

function shape<T>(expected: string, read: (raw: string) => T | undefined, show: (v: T) => string): Shape<T> {
  const schema = text.transform((raw, context): T => {
    const value = read(raw)
    if (value === undefined) {
      context.addIssue({ code: 'custom', message: expected })
      return z.NEVER
    }
    return value
  })
  return { expected, schema, show }
}

export function integer(min: number, max: number): Shape<number> {
  return shape(
    `a whole number from ${String(min)} to ${String(max)}`,
    (raw) => (/^\d{1,15}$/.test(raw) ? within(Number(raw), min, max) : undefined),
    String,
  )
}

/** Stands for "auto" in a number setting. */
export const AUTO: number = -1

export function integerOrAuto(min: number, max: number): Shape<number> {
  return shape(
    `auto, or a whole number from ${String(min)} to ${String(max)}`,
    (raw) => (raw === 'auto' ? AUTO : /^\d{1,15}$/.test(raw) ? within(Number(raw), min, max) : undefined),
    (v) => (v === AUTO ? 'auto' : String(v)),
  )
}

const SIZE_UNITS: Record<string, number> = {
  B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30, TIB: 2 ** 40,
}

/** Bytes. */
export function size(min: number, max: number): Shape<number> {
  return shape(
    `a size such as 64MiB or 10GB, from ${showSize(min)} to ${showSize(max)}`,
    (raw) => {
      const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?I?B)?$/.exec(raw.toUpperCase())
      if (match === null) return undefined
      return within(Math.round(Number(match[1]) * (SIZE_UNITS[match[2] ?? 'B'] ?? 1)), min, max)
    },
    showSize,
  )
}

const TIME_UNITS: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }

/** Milliseconds. */
export function duration(minMs: number, maxMs: number): Shape<number> {
  return shape(
    `a duration such as 500ms, 30s, 5m, 2h or 7d, from ${showDuration(minMs)} to ${showDuration(maxMs)}`,
    (raw) => {
      const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)$/.exec(raw)
      if (match === null) return raw === '0' ? within(0, minMs, maxMs) : undefined
      return within(Math.round(Number(match[1]) * (TIME_UNITS[match[2] ?? 'ms'] ?? 1)), minMs, maxMs)
    },
    showDuration,
  )
}

export function hostPort(): Shape<HostPort> {
  return shape('host:port, such as 127.0.0.1:9000, [::1]:9000 or 0.0.0.0:0', readHostPort, showHostPort)
}

export function boolean(): Shape<boolean> {
  return shape(
    'true or false',
    (raw) => (/^(true|yes|on|1)$/i.test(raw) ? true : /^(false|no|off|0)$/i.test(raw) ? false : undefined),
    String,
  )
}

export function choice<T extends string>(values: readonly T[]): Shape<T> {
  return shape(`one of ${values.join(', ')}`, (raw) => values.find((v) => v === raw), String)
}

/** Text that matches a pattern; `expected` says it in words. */
export function string(pattern: RegExp, expected: string): Shape<string> {
  return shape(expected, (raw) => (pattern.test(raw) ? raw : undefined), String)
}

/** A comma-separated list (a sequence in YAML). */
export function list(pattern: RegExp, expected: string): Shape<readonly string[]> {
  return shape(
    expected,
    (raw) => {
      const items = raw === '' ? [] : raw.split(',').map((s) => s.trim())
      return items.every((s) => pattern.test(s)) ? items : undefined
    },
    (v) => v.join(','),
  )
}

function within(n: number, min: number, max: number): number | undefined {
  return n >= min && n <= max ? n : undefined
}

function readHostPort(raw: string): HostPort | undefined {
  const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*):(\d{1,5})$/.exec(raw)
  if (match === null) return undefined
  const port = Number(match[2])
  if (port > 65535) return undefined
  const host = (match[1] ?? '').replace(/^\[|\]$/g, '')
  return { host: host === '' ? '0.0.0.0' : host, port }
}

export function showHostPort(address: HostPort): string {
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${host}:${String(address.port)}`
}

export function showSize(bytes: number): string {
  for (const [unit, n] of [['TiB', 2 ** 40], ['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]] as const) {
    if (bytes >= n && bytes % n === 0) return `${String(bytes / n)}${unit}`
  }
  return `${String(bytes)}B`
}

export function showDuration(ms: number): string {
  for (const [unit, n] of [['d', 864e5], ['h', 36e5], ['m', 6e4], ['s', 1e3]] as const) {
    if (ms >= n && ms % n === 0) return `${String(ms / n)}${unit}`
  }
  return ms === 0 ? '0' : `${String(ms)}ms`
}
