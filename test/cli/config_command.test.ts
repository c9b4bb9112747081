import assert from 'node:assert/strict'
import { test } from 'node:test'

import { configRows } from '../../ts/cli/config_command.js'
import { loadConfig } from '../../ts/server/config/load.js'

test('what has no value is null, and secrets are not shown', () => {
  const env = { OSTRAKA_ROOT_ACCESS_KEY: 'root', OSTRAKA_ROOT_SECRET_KEY: 'a secret that is long'.replaceAll(' ', '-') }
  const rows = new Map(configRows(loadConfig({ flags: {}, env })).map((row) => [row.key, row]))
  for (const key of ['drives', 'domains', 'credentials-file', 'cluster.join']) {
    assert.deepEqual(rows.get(key), { key, value: null, from: 'default' })
  }
  assert.equal(rows.get('root.secret-key')?.value, '(set)')
  assert.equal(rows.get('region')?.value, 'us-east-1')
  assert.ok([...rows.values()].every(({ value }) => value !== ''))
})
