/**
 * From flags, environment and a YAML file to one frozen Config.
 *
 * Phases: read the sources -> refuse unknown names -> choose per setting (flag over variable over YAML over default)
 * -> validate each by its shape -> check settings against each other. All problems are gathered and reported at once,
 * each naming the key, where it came from, what was expected and what was given.
 */
import { readFileSync } from 'node:fs'

import { parseDocument } from 'yaml'

import { expandDrivePatterns } from './drive_patterns.js'
import { flagOf, settings, variableOf } from './settings.js'
import type { Config, Setting } from './settings.js'
import { nearest } from './suggest.js'
import { AUTO, showHostPort } from './units.js'
import type { HostPort } from './units.js'

export interface ConfigSources {
  /** Flag name without dashes -> text, as given on the command line. */
  flags: Readonly<Record<string, string>>
  env: Readonly<Record<string, string | undefined>>
  /** Path of a YAML file; absent: OSTRAKA_CONFIG, else none. */
  file?: string
}

/** Where each value came from, for `ostraka config`. */
export interface LoadedConfig {
  config: Config
  origins: Readonly<Record<keyof Config, string>>
}

/** A configuration that cannot be used; `message` has one line per problem. */
export class ConfigError extends Error {
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

interface Given {
  value: unknown
  origin: string
}

/** Variables of this family that are not settings. */
const OTHER_VARIABLES = ['OSTRAKA_CONFIG', 'OSTRAKA_CPU', 'OSTRAKA_TEST_LONG', 'OSTRAKA_TEST_SEED']
const MAX_FILE = 1024 * 1024

const names = Object.keys(settings) as (keyof Config)[]

export function loadConfig(sources: ConfigSources): LoadedConfig {
  const problems: string[] = []
  const file = sources.file ?? sources.env.OSTRAKA_CONFIG
  const yaml = file === undefined || file === '' ? new Map<string, Given>() : readYaml(file, problems)
  const env = readEnvironment(sources.env, problems)
  const flags = new Map(Object.entries(sources.flags).map(([flag, value]) => [flag, { value, origin: `--${flag}` }]))

  const values: Partial<Record<keyof Config, unknown>> = {}
  const origins = {} as Record<keyof Config, string>
  for (const name of names) {
    const setting: Setting<unknown> = settings[name]
    const given = flags.get(flagOf(setting)) ?? env.get(variableOf(setting)) ?? yaml.get(setting.key)
    origins[name] = given?.origin ?? 'default'
    values[name] = validate(setting, given ?? { value: setting.default, origin: 'default' }, problems)
  }
  if (problems.length > 0) throw new ConfigError(problems)
  const config = values as unknown as Config
  crossCheck(config, origins, problems)
  if (problems.length > 0) throw new ConfigError(problems)
  return { config: Object.freeze(config), origins }
}

function validate(setting: Setting<unknown>, given: Given, problems: string[]): unknown {
  const parsed = setting.shape.schema.safeParse(given.value)
  if (parsed.success) return parsed.data
  const shown = setting.secret === true ? 'a value that is not shown' : show(given.value)
  problems.push(`${setting.key} (from ${given.origin}): expected ${setting.shape.expected}, was given ${shown}`)
  return undefined
}

function show(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined
  return text === undefined ? String(value) : text.length > 100 ? `${text.slice(0, 100)}...` : text
}

function readEnvironment(env: ConfigSources['env'], problems: string[]): Map<string, Given> {
  const known = new Set(names.map((name) => variableOf(settings[name])))
  const given = new Map<string, Given>()
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith('OSTRAKA_') || value === undefined) continue
    if (known.has(variable)) given.set(variable, { value, origin: variable })
    else if (!OTHER_VARIABLES.includes(variable)) problems.push(unknown(`variable ${variable}`, variable, known))
  }
  return given
}

function readYaml(file: string, problems: string[]): Map<string, Given> {
  const given = new Map<string, Given>()
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    problems.push(`the configuration file ${file} cannot be read: ${(error as Error).message}`)
    return given
  }
  if (text.length > MAX_FILE) {
    problems.push(`the configuration file ${file} is larger than ${String(MAX_FILE)} bytes`)
    return given
  }
  const document = parseDocument(text, { uniqueKeys: true })
  const error = document.errors[0]
  if (error !== undefined) {
    problems.push(`the configuration file ${file} is not valid YAML: ${error.message.split('\n')[0] ?? ''}`)
    return given
  }
  let root: unknown
  try {
    root = document.toJS({ maxAliasCount: 0 })
  } catch (error) {
    problems.push(`the configuration file ${file} cannot be used: ${(error as Error).message}`)
    return given
  }
  if (root === null || root === undefined) return given
  if (!isMapping(root)) {
    problems.push(`the configuration file ${file}: expected a mapping of settings, was given ${show(root)}`)
    return given
  }
  flatten(root, '', file, given, problems)
  return given
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `{ limits: { memory: 1 } }` and `{ 'limits.memory': 1 }` both give limits.memory. */
function flatten(
  node: Record<string, unknown>, prefix: string, file: string, given: Map<string, Given>, problems: string[],
): void {
  const known = names.map((name) => settings[name].key)
  for (const [part, value] of Object.entries(node)) {
    const key = prefix === '' ? part : `${prefix}.${part}`
    if (known.includes(key)) given.set(key, { value, origin: file })
    else if (isMapping(value) && known.some((k) => k.startsWith(`${key}.`))) flatten(value, key, file, given, problems)
    else problems.push(unknown(`key ${key} in ${file}`, key, known))
  }
}

function unknown(what: string, word: string, known: Iterable<string>): string {
  const guess = nearest(word, known)
  return `unknown ${what}${guess === undefined ? '' : `; did you mean ${guess}?`}`
}

function crossCheck(config: Config, origins: Readonly<Record<keyof Config, string>>, problems: string[]): void {
  if ((config.rootAccessKey === '') !== (config.rootSecretKey === '')) {
    const [there, gone] =
      config.rootAccessKey === ''
        ? ['root.secret-key', 'root.access-key']
        : ['root.access-key', 'root.secret-key']
    problems.push(`${there} is given without ${gone}: expected both, or neither (a file is then used)`)
  }
  if (config.drives !== '') {
    try {
      checkDriveCount(expandDrivePatterns(config.drives), config, origins, problems)
    } catch (error) {
      problems.push(`drives (from ${origins.drives}): ${(error as Error).message}`)
    }
  }
  checkAddresses(config, problems)
  checkCluster(config, origins, problems)
}

function checkAddresses(config: Config, problems: string[]): void {
  const addresses = [['listen', config.listen], ['admin-listen', config.adminListen]] as [string, HostPort][]
  if (config.metadataEngine === 'replicated') addresses.push(['cluster.listen', config.clusterListen])
  for (const [i, [name, one]] of addresses.entries()) {
    for (const [otherName, other] of addresses.slice(i + 1)) {
      if (one.port === 0 || one.port !== other.port || one.host !== other.host) continue
      problems.push(`${name} and ${otherName} are the same address (${showHostPort(one)}): expected two`)
    }
  }
}

function checkCluster(config: Config, origins: Readonly<Record<keyof Config, string>>, problems: string[]): void {
  const tls = [config.clusterTlsCert, config.clusterTlsKey, config.clusterTlsCa]
  if (tls.some((file) => file === '') && tls.some((file) => file !== '')) {
    problems.push('cluster.tls.cert, cluster.tls.key and cluster.tls.ca: expected all three, or none')
  }
  if (config.metadataEngine === 'replicated') {
    if (config.metadataCopies === AUTO || config.metadataCopies === 1) return
    problems.push(
      `metadata.copies (from ${origins.metadataCopies}): a node of a replicated store keeps one copy, the others are on ` +
        `other nodes: expected auto or 1, was given ${String(config.metadataCopies)}`,
    )
    return
  }
  if (config.clusterJoin.length > 0) {
    problems.push(
      `cluster.join (from ${origins.clusterJoin}): a node joins others only with metadata.engine replicated, was ` +
        `given ${config.metadataEngine} (from ${origins.metadataEngine})`,
    )
  }
}

function checkDriveCount(
  drives: readonly string[], config: Config, origins: Readonly<Record<keyof Config, string>>, problems: string[],
): void {
  const setSize = config.setSize
  if (setSize > 0 && drives.length % setSize !== 0) {
    problems.push(
      `set-size (from ${origins.setSize}): expected a divisor of the number of drives (${String(drives.length)}), was given ${String(setSize)}`,
    )
  }
}
