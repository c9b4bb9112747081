/** The command line of `npm run bench`. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PARTS, UsageError, parseOptions } from '../../bench/options.js'
import { s3Cells } from '../../bench/plans.js'

const main = fileURLToPath(new URL('../../bench/main.js', import.meta.url))
const parse = (...args: string[]) => parseOptions(args, {})

function run(...args: string[]) {
  const options = parse(...args)
  assert.equal(options.command, 'run')
  return options.command === 'run' ? options : assert.fail()
}

test('without options everything is measured', () => {
  assert.deepEqual(run().only, PARTS)
  assert.deepEqual(run('--only', 's3,kernels').only, ['kernels', 's3'])
  assert.deepEqual(run('--only', 'all').only, PARTS)
  assert.deepEqual(run('--quick', '--only', 'memory').only, ['memory'])
  assert.ok(!run('--quick').only.includes('memory'), 'so few objects say nothing')
})

test('what is wrong is said before anything runs', () => {
  const wrong: [string[], RegExp][] = [
    [['--only', 'kernles'], /there is no part "kernles"/],
    [['--only', ''], /there is no part ""/],
    [['--fast'], /--fast/],
    [['comprae', 'a', 'b'], /there is no command "comprae"/],
    [['compare', 'a'], /two result files/],
    [['compare', 'a', 'b', '--quick'], /--quick says nothing to compare/],
    [['--threshold', '5'], /--threshold says nothing to a run/],
    [['compare', 'a', 'b', '--threshold', 'ten'], /"ten" is not a number/],
    [['report', 'a'], /--html/],
    [['--clients', '0'], /--clients: "0"/],
    [['--sizes', '4k'], /--sizes: "4k"/],
    [['--operations', 'put,post'], /--operations: "post"/],
    [['--rounds', '1.5'], /not a whole number/],
    [['--seconds', '0'], /--seconds/],
    [['--endpoint', 'ftp://x'], /access-key|http or https/],
    [['--endpoint', 'http://x/y', '--access-key', 'a', '--secret-key', 'b'], /no path/],
    [['--endpoint', 'http://x'], /needs --access-key/],
    [['--name', 'x'], /--name comes more often/],
    [['--endpoint', 'http://x', '--name', 'bare', '--access-key', 'a', '--secret-key', 'b'], /"bare"/],
  ]
  for (const [args, message] of wrong) {
    assert.throws(
      () => parse(...args),
      (error: Error) => error instanceof UsageError && message.test(error.message),
      args.join(' '),
    )
  }
})

test('the command exits with 2 and says how to call it, and with 0 for --help', () => {
  const wrong = spawnSync(process.execPath, [main, '--only', 'nothing'], { encoding: 'utf8' })
  assert.equal(wrong.status, 2)
  assert.match(wrong.stderr, /there is no part "nothing"[^]*--quick/)
  const help = spawnSync(process.execPath, [main, '--help'], { encoding: 'utf8' })
  assert.equal(help.status, 0)
  for (const part of PARTS) assert.ok(help.stdout.includes(part))
})

test('other servers take their keys from the options or the environment', () => {
  const env = { AWS_ACCESS_KEY_ID: 'env', AWS_SECRET_ACCESS_KEY: 'secret' }
  const options = parseOptions([
    '--endpoint', 'http://127.0.0.1:9001', '--name', 'one', '--access-key', 'own', '--secret-key', 'k',
    '--endpoint', 'https://[::1]', '--name', 'two', '--region', 'eu', '--insecure',
  ], env)
  assert.deepEqual(options.command === 'run' ? options.others : [], [
    {
      name: 'one', address: { host: '127.0.0.1', port: 9001, tls: false, insecure: true },
      keys: { accessKey: 'own', secretKey: 'k', region: 'eu' },
    },
    {
      name: 'two', address: { host: '::1', port: 443, tls: true, insecure: true },
      keys: { accessKey: 'env', secretKey: 'secret', region: 'eu' },
    },
  ])
})

test('a quick run has the cells with targets, repeated; a full one all of them', () => {
  const quick = s3Cells(run('--quick'))
  for (const operation of ['PUT', 'GET']) {
    const cell = quick.find((one) => one.operation === operation && one.size === 4096 && one.clients === 32)
    assert.ok((cell?.rounds ?? 0) > 1, operation)
  }
  // Four sizes, four numbers of clients, five operations, and listings.
  assert.equal(s3Cells(run()).length, 4 * 4 * 5 + 4)
  assert.equal(s3Cells(run('--quick', '--operations', 'put', '--sizes', '1KiB', '--clients', '2')).length, 1)
})
