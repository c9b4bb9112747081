/** `ostraka serve`, from a validated configuration to the exit of the process. Exit codes: cli/exit_codes.ts. */
import { readFileSync } from 'node:fs'

import { EXIT } from './exit_codes.js'
import { exitNow } from '../native/io.js'
import type { Config } from './config/settings.js'
import { banner } from './control/banner.js'
import { DriveRefusal } from './control/drive_records.js'
import { DrivesRefusedError } from '../drive/open_drives.js'
import { Lifecycle } from './control/lifecycle.js'
import { Server } from './control/server.js'
import { NodeIdentityError } from './cluster/identity.js'
import { JoinRefused } from './cluster/join.js'
import { CredentialsError } from './credentials.js'
import { ListenError } from './listen.js'
import { createLogger } from './log.js'
import { raiseHeapFloor } from './threads/heap.js'
import { MetadataOpenError } from './threads/metadata_thread.js'

export async function serve(config: Config): Promise<never> {
  const log = createLogger(config.logLevel, 'control')
  const lifecycle = new Lifecycle(log)
  const version = packageVersion()
  log.info({ version, node: process.version, config: { ...config, rootSecretKey: undefined } }, 'starting')
  raiseHeapFloor()
  let server: Server
  try {
    const starting = Server.start(config, {
      log,
      version,
      fatal: (what, error) => lifecycle.fatal(what, error),
      stopping: () => lifecycle.stopping,
    })
    const first = await Promise.race([starting, lifecycle.stopAsked])
    if (typeof first === 'string') {
      log.info('stopped before it was ready')
      exitNow(EXIT.ok)
    }
    server = first
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    process.stderr.write(`ostraka: ${message}\n`)
    exitNow(
      exitCodeOf(error, (e) => {
        log.fatal({ err: e }, 'the server could not start')
      }),
    )
  }
  const { endpoint, admin, credentials, registry } = server
  process.stdout.write(
    banner({ version, endpoint, admin, credentials, region: config.region, drives: registry.describe() }),
  )
  log.info({ endpoint, admin, clusterId: registry.topology.clusterId }, 'ready')
  await lifecycle.stopAsked
  await server.stop()
  log.info('stopped')
  exitNow(EXIT.ok)
}

function exitCodeOf(error: unknown, unforeseen: (error: unknown) => void): number {
  if (
    error instanceof DrivesRefusedError ||
    error instanceof DriveRefusal ||
    error instanceof MetadataOpenError
  ) {
    return EXIT.drives
  }
  if (error instanceof ListenError) return EXIT.address
  if (error instanceof CredentialsError || error instanceof NodeIdentityError || error instanceof JoinRefused) {
    return EXIT.usage
  }
  unforeseen(error)
  return EXIT.failure
}

function packageVersion(): string {
  const file = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
