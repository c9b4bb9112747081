/** The sub-commands. Each is one file; this one only names them and turns errors into exit codes. */
import { readFileSync } from 'node:fs'

import { Command, CommanderError } from 'commander'

import { DrivesRefusedError } from '../drive/open_drives.js'
import { ConfigError } from '../server/config/load.js'
import { CredentialsError } from '../server/credentials.js'
import { addAdminCommand } from './admin_command.js'
import { Unreachable } from './admin_client.js'
import { addBenchCommand } from './bench_command.js'
import { addConfigCommand } from './config_command.js'
import { EXIT } from '../server/exit_codes.js'
import { addRestoreCommand } from './restore_command.js'
import { addServeCommand } from './serve_command.js'

function version(): string {
  const file = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

function program(): Command {
  const ostraka = new Command('ostraka')
    .description('An erasure-coded, S3-compatible object store')
    .version(version())
    .showSuggestionAfterError(true)
    .exitOverride()
  addServeCommand(ostraka)
  addAdminCommand(ostraka)
  addRestoreCommand(ostraka)
  addConfigCommand(ostraka)
  addBenchCommand(ostraka)
  return ostraka
}

/** Runs the command line of this process; what goes wrong is said on stderr and in its exit code. */
export async function runCommand(): Promise<void> {
  // A reader that has seen enough (`ostraka config | head`) is no error.
  process.stdout.on('error', () => {
    process.exit(EXIT.ok)
  })
  try {
    await program().parseAsync(process.argv)
  } catch (error) {
    process.exitCode = report(error)
  }
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (error instanceof ConfigError) {
    for (const problem of error.problems) process.stderr.write(`ostraka: ${problem}\n`)
    return EXIT.usage
  }
  if (error instanceof DrivesRefusedError) {
    process.stderr.write(`ostraka: ${error.message}\n`)
    return EXIT.drives
  }
  if (error instanceof Unreachable) {
    process.stderr.write(`ostraka: ${error.message}\n`)
    return EXIT.unreachable
  }
  if (error instanceof CredentialsError) {
    process.stderr.write(`ostraka: ${error.message}\n`)
    return EXIT.usage
  }
  process.stderr.write(`ostraka: ${error instanceof Error ? error.message : String(error)}\n`)
  return EXIT.failure
}
