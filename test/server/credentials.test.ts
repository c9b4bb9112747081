import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

import { CredentialsError, loadCredentials } from '../../ts/server/credentials.js'

const folder = mkdtempSync(join(tmpdir(), 'ostraka-credentials-'))
after(() => { rmSync(folder, { recursive: true, force: true }) })

const none = { accessKey: '', secretKey: '' }

test('credentials are made once, kept in a file only the owner can read, and read back', () => {
  const file = join(folder, 'made')
  const made = loadCredentials(none, file)
  assert.equal(made.created, true)
  assert.match(made.accessKey, /^OSTR[A-Z2-7]{16}$/)
  assert.ok(made.secretKey.length >= 40)
  assert.equal(statSync(file).mode & 0o777, 0o600)
  const again = loadCredentials(none, file)
  assert.deepEqual({ ...again, created: true }, made)
  assert.deepEqual(readdirSync(folder), ['made'])
})

test('credentials that are given need no file', () => {
  const given = loadCredentials({ accessKey: 'someone', secretKey: 'something' }, join(folder, 'not', 'there'))
  assert.equal(given.accessKey, 'someone')
  assert.equal(given.file, '')
})

test('a credentials file that others can read is refused', () => {
  const file = join(folder, 'open')
  loadCredentials(none, file)
  chmodSync(file, 0o644)
  assert.throws(
    () => loadCredentials(none, file),
    (e: Error) => e instanceof CredentialsError && /chmod 600/.test(e.message),
  )
})

test('a credentials file without keys is refused and left as it is', () => {
  const file = join(folder, 'empty')
  writeFileSync(file, '[default]\n', { mode: 0o600 })
  assert.throws(() => loadCredentials(none, file), CredentialsError)
  assert.equal(readFileSync(file, 'utf8'), '[default]\n')
})
