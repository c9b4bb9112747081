/**
 * The root credentials: given by the operator, else read from the credentials file, else made at first start.
 *
 * The file has mode 0600 and the format of the AWS shared credentials file, so clients can be pointed at it as it is
 * (AWS_SHARED_CREDENTIALS_FILE). It is created exclusively, synced, and never overwritten.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

export interface Credentials {
  accessKey: string
  secretKey: string
  /** Where they are from, for the operator: a path, or 'the configuration'. */
  source: string
  /** Path of the file, '' when they were given. */
  file: string
  created: boolean
}

export class CredentialsError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CredentialsError'
  }
}

export function loadCredentials(given: { accessKey: string; secretKey: string }, file: string): Credentials {
  if (given.accessKey !== '') return { ...given, source: 'the configuration', file: '', created: false }
  const found = read(file)
  if (found !== undefined) return { ...found, source: file, file, created: false }
  create(file)
  const made = read(file)
  if (made === undefined)
    throw new CredentialsError(`the credentials file ${file} vanished while it was made`)
  return { ...made, source: file, file, created: true }
}

/** For a client on the same machine. Throws CredentialsError when there is no such file. */
export function readCredentials(file: string): { accessKey: string; secretKey: string } {
  const found = read(file)
  if (found === undefined) {
    throw new CredentialsError(`no root credentials are given, and there is no credentials file ${file}`)
  }
  return found
}

function read(file: string): { accessKey: string; secretKey: string } | undefined {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new CredentialsError(`the credentials file ${file} cannot be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
  try {
    const mode = fstatSync(fd).mode & 0o777
    if ((mode & 0o077) !== 0) {
      throw new CredentialsError(
        `the credentials file ${file} can be read by others (mode ${mode.toString(8)}): expected 600; run chmod 600 on it`,
      )
    }
    const text = readFileSync(fd, 'utf8')
    const accessKey = /^\s*aws_access_key_id\s*=\s*(\S+)\s*$/m.exec(text)?.[1]
    const secretKey = /^\s*aws_secret_access_key\s*=\s*(\S+)\s*$/m.exec(text)?.[1]
    if (accessKey === undefined || secretKey === undefined) {
      throw new CredentialsError(
        `the credentials file ${file} lacks aws_access_key_id or aws_secret_access_key`,
      )
    }
    return { accessKey, secretKey }
  } finally {
    closeSync(fd)
  }
}

function create(file: string): void {
  const accessKey = `OSTR${base32(randomBytes(10))}`
  const secretKey = randomBytes(30).toString('base64url')
  const text = `[default]\naws_access_key_id = ${accessKey}\naws_secret_access_key = ${secretKey}\n`
  createPrivateFile(file, text)
}

/**
 * Mode 0600. Written beside its name and linked into place, so that nobody ever sees half of it; a file that is there
 * already stays. Throws CredentialsError.
 */
export function createPrivateFile(file: string, text: string): void {
  const temporary = `${file}.${randomBytes(6).toString('hex')}`
  try {
    const fd = openSync(temporary, 'wx', 0o600)
    try {
      writeSync(fd, text)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    try {
      linkSync(temporary, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const directory = openSync(dirname(file), 'r')
    try {
      fsyncSync(directory)
    } finally {
      closeSync(directory)
    }
  } catch (error) {
    throw new CredentialsError(`${file} cannot be made: ${(error as Error).message}`, {
      cause: error,
    })
  } finally {
    rmSync(temporary, { force: true })
  }
}

function base32(bytes: Uint8Array): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
  let out = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      out += letters[(held >>> bits) & 31] ?? ''
    }
    held &= (1 << bits) - 1
  }
  return out
}
