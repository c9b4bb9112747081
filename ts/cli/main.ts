#!/usr/bin/env node
/**
 * The `ostraka` command. Everything else is loaded from here, so that a machine for which a native part is missing gets
 * advice rather than a stack.
 */
import { EXIT } from '../server/exit_codes.js'

try {
  const { runCommand } = await import('./program.js')
  await runCommand()
} catch (error) {
  const advice = nativeAdvice(error)
  if (advice === undefined) throw error
  process.stderr.write(`ostraka: ${advice}\n`)
  process.exitCode = EXIT.failure
}

/** What to say of a native part that is not there or does not load; undefined for any other error. */
function nativeAdvice(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const code = 'code' in error ? error.code : undefined
  // ADDON_ERROR of native/addon.ts, which cannot be imported when it throws; its message has the advice.
  if (code === 'ERR_OSTRAKA_ADDON') return error.message
  // The database's binary: a package of its own for each platform, loaded by lmdb.
  if (code !== 'ERR_DLOPEN_FAILED' && !/No native build was found/.test(error.message)) return undefined
  const [reason = ''] = error.message.split('\n')
  return (
    `the binary of the lmdb package is missing or does not load here: ${reason}\n` +
    'It comes as an optional package of npm (@lmdb/lmdb-linux-x64 or -arm64): install without --omit=optional, on\n' +
    'Linux with glibc 2.34 or newer.'
  )
}
