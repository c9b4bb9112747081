/** What a result depends on: machine, system, Node, commit. Written into every result file. */
import { execFileSync } from 'node:child_process'
import { readFileSync, realpathSync } from 'node:fs'
import { arch, cpus, loadavg, platform, release, tmpdir, totalmem } from 'node:os'

export interface Environment {
  date: string
  cpu: string
  cores: number
  memoryGiB: number
  kernel: string
  node: string
  commit: string
  /** Of the folder that the drives were made in. */
  fileSystem: string
  /** Processes ready to run before the run began, averaged over a minute: others than us. */
  load: number
}

export function environment(drivesIn: string = tmpdir()): Environment {
  return {
    date: new Date().toISOString(),
    cpu: cpuName(),
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    commit: commit(),
    fileSystem: fileSystem(drivesIn),
    load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  }
}

/** Virtual machines often hide the model; family and model number still tell the generation. */
function cpuName(): string {
  const name = cpus()[0]?.model ?? 'unknown'
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8')
    const field = (key: string): string => new RegExp(`^${key}\\s*: (.*)$`, 'm').exec(info)?.[1] ?? ''
    const flags = field('flags').split(' ')
    const sets = ['avx2', 'avx512bw', 'gfni', 'vpclmulqdq'].filter((flag) => flags.includes(flag))
    return `${name} (family ${field('cpu family')}, model ${field('model')}; ${sets.join(', ')})`
  } catch {
    return name
  }
}

/** Type and device of the mount that holds `folder`. */
function fileSystem(folder: string): string {
  try {
    const path = realpathSync(folder)
    const mounts = readFileSync('/proc/self/mounts', 'utf8').trim().split('\n').map((line) => line.split(' '))
    const holds = (point: string): boolean => path === point || path.startsWith(point === '/' ? '/' : `${point}/`)
    const [device, , type] = mounts
      .filter(([, point]) => point !== undefined && holds(point))
      .reduce((best, mount) => ((mount[1] ?? '').length >= (best[1] ?? '').length ? mount : best), ['', '', 'unknown'])
    return `${type ?? ''} on ${device ?? ''}`
  } catch {
    return 'unknown'
  }
}

function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
    const changed = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' (changed)'
    return git('rev-parse', '--short=12', 'HEAD') + changed
  } catch {
    return 'unknown'
  }
}
