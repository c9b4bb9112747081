/** Starts the real server as a child process on ports chosen by the system, and stops it. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { signAdmin } from '../../ts/server/admin/signature.js'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface StartOptions {
  drives: readonly string[]
  args?: readonly string[]
  env?: Readonly<Record<string, string>>
  /** Program and arguments in front of node, such as strace. */
  wrapper?: readonly string[]
  /** The command's main.js, when it is not the one compiled beside this file. */
  main?: string
  /** The server gets a process group of its own: no interrupt from a terminal, and all of it killed at our exit. */
  group?: boolean
  /** Gives up waiting for the server to be ready. */
  signal?: AbortSignal
}

export const ROOT_KEYS = { accessKey: 'e2e-access-key', secretKey: 'e2e-secret-key-0123456789' }

const main = fileURLToPath(new URL('../../ts/cli/main.js', import.meta.url))

/** Long enough for a slow, busy machine: only a fault makes a test wait for it. */
const START_MS = 120_000

/** A server that did not come up: what it exited with, and its words. */
export class StartFailure extends Error {
  readonly exit: Exit
  readonly output: string
  constructor(exit: Exit, output: string) {
    super(`the server ended with ${JSON.stringify(exit)}:\n${output}`)
    this.name = 'StartFailure'
    this.exit = exit
    this.output = output
  }
}

export class ServerProcess {
  readonly child: ChildProcess
  /** Of the server itself, not of a wrapper. */
  readonly pid: number
  readonly endpoint: string
  readonly adminEndpoint: string
  readonly exited: Promise<Exit>
  readonly #output: string[]

  private constructor(child: ChildProcess, ready: Ready, exited: Promise<Exit>, output: string[]) {
    this.child = child
    this.pid = ready.pid
    this.endpoint = ready.endpoint
    this.adminEndpoint = ready.admin
    this.exited = exited
    this.#output = output
  }

  static async start(options: StartOptions): Promise<ServerProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'ostraka-ready-'))
    const readyFile = join(folder, 'ready')
    const serve = [
      options.main ?? main,
      'serve',
      '--drives',
      options.drives.join(','),
      '--listen',
      '127.0.0.1:0',
      '--admin-listen',
      '127.0.0.1:0',
      '--ready-file',
      readyFile,
      ...(options.args ?? []),
    ]
    const [program = process.execPath, ...before] = [...(options.wrapper ?? []), process.execPath]
    const child = spawn(program, [...before, ...serve], {
      env: {
        ...cleanEnvironment(),
        OSTRAKA_ROOT_ACCESS_KEY: ROOT_KEYS.accessKey,
        OSTRAKA_ROOT_SECRET_KEY: ROOT_KEYS.secretKey,
        ...options.env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: options.group === true,
    })
    const kill = (): void => { killAll(child, options.group === true) }
    // A test that failed leaves its server behind: it must neither keep this process nor outlive it.
    process.once('exit', kill)
    const output: string[] = []
    child.stdout.on('data', (data: Buffer) => {
      keep(output, data)
    })
    child.stderr.on('data', (data: Buffer) => {
      keep(output, data)
    })
    const exited = new Promise<Exit>((resolve) => {
      child.once('close', (code, signal) => {
        process.off('exit', kill)
        resolve({ code, signal })
      })
    })
    try {
      const ready = await waitForReady(readyFile, exited, output, kill, options.signal)
      setReferenced(child, false)
      return new ServerProcess(child, ready, exited, output)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  /** Everything it has written so far. */
  get output(): string {
    return this.#output.join('')
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    setReferenced(this.child, true)
    if (this.child.exitCode === null && this.child.signalCode === null) process.kill(this.pid, signal)
    return this.exited
  }

  /** Anonymous resident memory now, in bytes. */
  anonymousMemory(): number {
    const status = readFileSync(`/proc/${String(this.pid)}/status`, 'utf8')
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? NaN) * 1024
  }

  /** A signed call of the admin API. */
  async admin(method: 'GET' | 'POST', path: string, body?: object): Promise<unknown> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const authorization = signAdmin({ method, target: path, body: text }, ROOT_KEYS, Date.now())
    const response = await fetch(this.adminEndpoint + path, {
      method,
      headers: { authorization },
      ...(text === '' ? {} : { body: text }),
    })
    const answer: unknown = await response.json()
    if (!response.ok)
      throw new Error(`${method} ${path}: ${String(response.status)} ${JSON.stringify(answer)}`)
    return answer
  }
}

function killAll(child: ChildProcess, group: boolean): void {
  if (!group || child.pid === undefined) {
    child.kill('SIGKILL')
    return
  }
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}

function setReferenced(child: ChildProcess, referenced: boolean): void {
  for (const handle of [child, child.stdout as Socket | null, child.stderr as Socket | null]) {
    if (referenced) handle?.ref()
    else handle?.unref()
  }
}

interface Ready {
  pid: number
  endpoint: string
  admin: string
}

/** Without OSTRAKA_* settings of whoever runs the tests. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('OSTRAKA_') || name === 'OSTRAKA_CPU'),
  )
}

function keep(output: string[], data: Buffer): void {
  output.push(data.toString())
  if (output.length > 20_000) output.splice(0, 10_000)
}

async function waitForReady(
  file: string,
  exited: Promise<Exit>,
  output: string[],
  kill: () => void,
  signal: AbortSignal | undefined,
): Promise<Ready> {
  let exit: Exit | undefined
  void exited.then((e) => {
    exit = e
  })
  for (const until = Date.now() + START_MS; Date.now() < until;) {
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Ready
    if (exit !== undefined) throw new StartFailure(exit, output.join(''))
    if (signal?.aborted === true) {
      kill()
      await exited
      signal.throwIfAborted()
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  kill()
  throw new Error(`the server was not ready in time:\n${output.join('')}`)
}

/** A fresh directory with `count` empty drives; `remove` deletes it all. */
export function makeDrives(
  count: number,
  folder: string = tmpdir(),
): { folder: string; drives: string[]; remove(): void } {
  const base = mkdtempSync(join(folder, 'ostraka-drives-'))
  const drives = Array.from({ length: count }, (_, i) => join(base, `d${String(i + 1)}`))
  for (const drive of drives) mkdirSync(drive)
  return {
    folder: base,
    drives,
    remove: () => {
      rmSync(base, { recursive: true, force: true })
    },
  }
}
