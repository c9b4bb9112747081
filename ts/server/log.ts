/**
 * Logs: JSON lines on standard error, one logger per thread, with secrets taken out by name wherever they stand.
 *
 * Lines are written synchronously, so that the last words of a crash are not lost; a line is one write(2), so lines of
 * several threads do not mix on a file or terminal.
 */
import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'

import type { LogLevel } from './config/settings.js'

export type { Logger }

/** Names whose values never reach a log, at the first three depths of a line. */
const SECRET_NAMES = [
  'secretKey', 'rootSecretKey', 'secretAccessKey', 'authorization', 'Authorization', '["x-amz-security-token"]',
  'cookie', 'signature', 'token', 'password',
]

export function createLogger(level: LogLevel, thread: string): Logger {
  const paths = SECRET_NAMES.flatMap((name) => {
    const dotted = name.startsWith('[') ? name : `.${name}`
    return [dotted.replace(/^\./, ''), `*${dotted}`, `*.*${dotted}`]
  })
  return pino(
    {
      level,
      base: { pid: process.pid, thread },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths, censor: '[secret]' },
      formatters: { level: (label) => ({ level: label }) },
    },
    standardError(),
  )
}

/** Takes credentials out of a URL: presigned queries hold a signature that is good until it expires. */
export function redactUrl(url: string): string {
  return url.replace(
    /([?&](?:X-Amz-(?:Signature|Security-Token|Credential)|Signature|AWSAccessKeyId)=)[^&#]*/gi,
    '$1[secret]',
  )
}

/** Whoever reads the log may go away: serving goes on without. */
function standardError(): DestinationStream {
  const destination = pino.destination({ dest: 2, sync: true })
  destination.on('error', () => undefined)
  return destination
}
