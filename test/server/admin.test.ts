import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'

import { AdminError, AdminServer } from '../../ts/server/admin/admin_server.js'
import { AdminVerifier, signAdmin } from '../../ts/server/admin/signature.js'
import { createLogger } from '../../ts/server/log.js'

const keys = { accessKey: 'root', secretKey: 'a secret that is long' }
const log = createLogger('error', 'test')
log.level = 'silent'
let reasons: string[] = []
const server = new AdminServer({
  address: { host: '127.0.0.1', port: 0 },
  verifier: new AdminVerifier(keys),
  metrics: () => Promise.resolve({ contentType: 'text/plain', text: 'some 1\n' }),
  notReady: () => reasons,
  routes: new Map([
    ['GET /admin/v1/status', () => ({ status: 200, body: { fine: true } })],
    ['POST /admin/v1/echo', (body: unknown) => ({ status: 200, body })],
    ['GET /admin/v1/wrong', () => { throw new AdminError(409, 'not now') }],
    ['GET /admin/v1/broken', () => { throw new Error('/secret/path broke') }],
  ]),
  log,
})
let base = ''

before(async () => {
  const address = await server.listen()
  base = `http://127.0.0.1:${String(address.port)}`
})
after(() => { server.close() })

async function call(
  method: string,
  target: string,
  body = '',
  authorization?: string,
): Promise<{ status: number; json: unknown }> {
  const sign = authorization ?? signAdmin({ method, target, body }, keys, Date.now())
  const response = await fetch(base + target, {
    method,
    headers: { authorization: sign },
    ...(body === '' ? {} : { body }),
  })
  return { status: response.status, json: await response.json() }
}

test('metrics and health answer without a signature; readiness says why not', async () => {
  assert.equal(await (await fetch(`${base}/metrics`)).text(), 'some 1\n')
  assert.equal((await fetch(`${base}/health/live`)).status, 200)
  assert.equal((await fetch(`${base}/health/ready`)).status, 200)
  reasons = ['no drives']
  const unready = await fetch(`${base}/health/ready`)
  assert.equal(unready.status, 503)
  assert.deepEqual(await unready.json(), { ready: false, reasons: ['no drives'] })
  reasons = []
})

test('a signed request is served, with its body', async () => {
  assert.deepEqual(await call('GET', '/admin/v1/status'), { status: 200, json: { fine: true } })
  assert.deepEqual(await call('POST', '/admin/v1/echo', '{"a":1}'), { status: 200, json: { a: 1 } })
})

test('no header is left out because there are many before it', async () => {
  const authorization = signAdmin({ method: 'GET', target: '/admin/v1/status', body: '' }, keys, Date.now())
  const socket = connect({ port: Number(new URL(base).port), host: '127.0.0.1' })
  const lines = ['GET /admin/v1/status HTTP/1.1', 'host: x', ...Array<string>(2100).fill('a:1'),
    `authorization: ${authorization}`, 'connection: close', '', '']
  socket.write(lines.join('\r\n'))
  let answer = ''
  for await (const piece of socket.setEncoding('latin1')) answer += String(piece)
  assert.match(answer, /^HTTP\/1.1 200 /)
})

test('requests that are unsigned, signed otherwise, stale, altered or sent twice are refused', async () => {
  const target = '/admin/v1/status'
  const request = { method: 'GET', target, body: '' }
  assert.equal((await call('GET', target, '', 'Basic cm9vdDpyb290')).status, 403)
  assert.equal(
    (await call('GET', target, '', signAdmin(request, { ...keys, secretKey: 'another' }, Date.now()))).status,
    403,
  )
  assert.equal(
    (await call('GET', target, '', signAdmin(request, { ...keys, accessKey: 'other' }, Date.now()))).status,
    403,
  )
  assert.equal((await call('GET', target, '', signAdmin(request, keys, Date.now() - 600_000))).status, 403)
  assert.equal(
    (
      await call(
        'POST',
        '/admin/v1/echo',
        '{}',
        signAdmin({ method: 'POST', target: '/admin/v1/echo', body: '{"a":2}' }, keys, Date.now()),
      )
    ).status,
    403,
  )
  const once = signAdmin(request, keys, Date.now())
  assert.equal((await call('GET', target, '', once)).status, 200)
  assert.equal((await call('GET', target, '', once)).status, 403)
})

test('errors are named, and those unforeseen tell nothing of the inside', async () => {
  assert.deepEqual(await call('GET', '/admin/v1/wrong'), { status: 409, json: { error: 'not now' } })
  const broken = await call('GET', '/admin/v1/broken')
  assert.equal(broken.status, 500)
  assert.ok(!JSON.stringify(broken.json).includes('secret'))
  assert.equal((await call('GET', '/admin/v1/absent')).status, 404)
  assert.equal((await call('POST', '/admin/v1/echo', '{')).status, 400)
  assert.equal((await call('POST', '/admin/v1/echo', '"' + 'x'.repeat(70_000) + '"')).status, 413)
})
