/**
 * `ostraka admin`: asks a running server over its admin address. `--json` prints what the server said; on a terminal
 * `--watch` draws the progress of heals and scrubs until they have ended.
 */
import { type Command, InvalidArgumentError } from 'commander'

import type { DriveReport, SetReport, StatusReport } from '../server/admin/api.js'
import type { BackgroundProgress } from '../store/background/progress.js'
import { AdminClient } from './admin_client.js'
import { backgroundLines, bytes, seconds, table } from './render.js'
import { addMetadata } from './metadata_command.js'
import { addSettings, readSettings } from './settings_options.js'

const CLIENT_SETTINGS = [
  'adminListen',
  'drives',
  'credentialsFile',
  'rootAccessKey',
  'rootSecretKey',
] as const
const HEAL_JOBS = ['healer', 'driveHealer', 'presence']
const SCRUB_JOBS = ['scrubber']

export function addAdminCommand(parent: Command): void {
  const admin = parent.command('admin').description('ask and steer a running server')
  leaf(admin, 'status', 'what the server is, what it holds and how it is', async (client, show) => {
    const status = await client.get<StatusReport>('/admin/v1/status')
    show(status, () => statusText(status))
  })
  addHeal(admin)
  addScrub(admin)
  addDrive(admin)
  addSet(admin)
  addMetadata(admin)
}

export type Show = (answer: unknown, text: () => string) => void
export type Action = (
  client: AdminClient,
  show: Show,
  args: readonly string[],
  options: { watch: boolean },
) => Promise<void>

export function leaf(parent: Command, usage: string, about: string, action: Action): void {
  const command = parent.command(usage).description(about)
  for (const argument of command.registeredArguments) {
    if (argument.name() === 'number' || argument.name() === 'id') argument.argParser(wholeNumber)
  }
  addSettings(command, CLIENT_SETTINGS)
  command.option('--json', 'print JSON')
  if (about.includes('progress')) command.option('--watch', 'go on until it has ended')
  command.action(async (...given: unknown[]) => {
    const { config } = readSettings(command)
    const json = command.getOptionValue('json') === true
    const show: Show = (answer, text) => {
      process.stdout.write(`${json ? JSON.stringify(answer, null, 2) : text()}\n`)
    }
    const args = given.filter((value): value is string => typeof value === 'string')
    await action(new AdminClient(config), show, args, { watch: command.getOptionValue('watch') === true })
  })
}

/** Stays text: all arguments of a command are. */
function wholeNumber(text: string): string {
  if (/^\d{1,9}$/.test(text)) return text
  throw new InvalidArgumentError('A whole number is wanted.')
}

function addHeal(admin: Command): void {
  const heal = admin.command('heal').description('heals of shards that are missing or bad')
  leaf(heal, 'status', 'progress of heals', (client, show, _args, { watch }) =>
    showBackground(client, show, HEAL_JOBS, watch),
  )
  leaf(
    heal,
    'start',
    'look at every part now for shards that are missing; shows the progress',
    async (client, show, _args, { watch }) => {
      await client.post('/admin/v1/heal', { action: 'start' })
      await showBackground(client, show, HEAL_JOBS, watch)
    },
  )
}

function addScrub(admin: Command): void {
  const scrub = admin
    .command('scrub')
    .description('the scrub: reads everything from the medium and queues heals')
  leaf(scrub, 'status', 'progress of the scrub', (client, show, _args, { watch }) =>
    showBackground(client, show, SCRUB_JOBS, watch),
  )
  for (const action of ['start', 'stop']) {
    leaf(scrub, action, `${action} a scrub; shows the progress`, async (client, show, _args, { watch }) => {
      await client.post('/admin/v1/scrub', { action })
      await showBackground(client, show, SCRUB_JOBS, watch)
    })
  }
}

function addDrive(admin: Command): void {
  const drive = admin.command('drive').description('drives and their health')
  leaf(drive, 'list', 'every drive, its place and its health', async (client, show) => {
    const drives = await client.get<DriveReport[]>('/admin/v1/drives')
    show(drives, () => driveText(drives))
  })
  for (const [usage, action, about] of [
    [
      'take-out <number>',
      'takeOut',
      'stop using a drive until it is brought back or the server starts again',
    ],
    ['bring-back <number>', 'bringBack', 'use a drive again once it has been proved'],
  ] as const) {
    leaf(drive, usage, about, async (client, show, [number]) => {
      const answer = await client.post('/admin/v1/drives', { action, drive: Number(number) })
      show(answer, () => 'done')
    })
  }
}

function addSet(admin: Command): void {
  const set = admin.command('set').description('erasure sets and their shares of new data')
  leaf(set, 'list', 'every set, its drives and its share', async (client, show) => {
    const sets = await client.get<SetReport[]>('/admin/v1/sets')
    show(sets, () => setText(sets))
  })
  for (const [usage, action, about] of [
    ['read-only <number>', 'readOnly', 'give a set no new parts; what it holds stays'],
    ['activate <number>', 'active', 'give a set new parts again'],
  ] as const) {
    leaf(set, usage, about, async (client, show, [number]) => {
      show(await client.post('/admin/v1/sets', { action, set: Number(number) }), () => 'done')
    })
  }
}

async function showBackground(
  client: AdminClient,
  show: Show,
  jobs: readonly string[],
  watch: boolean,
): Promise<void> {
  await follow(watch, async () => {
    const progress = await client.get<BackgroundProgress>('/admin/v1/background')
    const chosen = { ...progress, jobs: progress.jobs.filter((job) => jobs.includes(job.job)) }
    show(chosen, () => backgroundLines(progress, jobs).join('\n'))
    return chosen.jobs.some((job) => job.task !== null) || (jobs === HEAL_JOBS && progress.heals > 0)
  })
}

/** Calls `once` again every second while it says that there is more to come, redrawing on a terminal. */
export async function follow(watch: boolean, once: () => Promise<boolean>): Promise<void> {
  for (;;) {
    if (watch && process.stdout.isTTY) process.stdout.write('\x1b[2J\x1b[H')
    if (!(await once()) || !watch) return
    await new Promise((done) => setTimeout(done, 1000))
  }
}

function statusText(status: StatusReport): string {
  const { counts, metadata } = status
  const up = seconds((Date.now() - status.startedMs) / 1000)
  return [
    `Ostraka ${status.version} at ${status.endpoint}, cluster ${status.clusterId}, up ${up}`,
    status.notReady.length === 0 ? 'ready' : `NOT READY: ${status.notReady.join('; ')}`,
    `${String(counts.buckets)} buckets, ${String(counts.objects)} objects, ${bytes(counts.bytes)}`,
    `workers: ${String(status.workers.configured)}, restarted ${String(status.workers.restarts)} times`,
    `metadata: position ${String(metadata.applied)}, ${String(metadata.copies.filter((c) => c.state === 'online').length)} of ${String(metadata.copies.length)} copies online`,
    ...status.sets.map(
      (set) =>
        `set ${String(set.number)}: ${String(set.k)}+${String(set.m)}, ${String(set.readableDrives)} of ${String(set.k + set.m)} drives readable, may lose ${String(set.toleratedLosses)} more`,
    ),
    '',
    driveText(status.drives),
    ...(status.background === null ? [] : ['', ...backgroundLines(status.background)]),
  ].join('\n')
}

function setText(sets: readonly SetReport[]): string {
  const rows = sets.map(({ number, k, m, state, share, readableDrives, writableDrives, toleratedLosses }) => [
    String(number),
    `${String(k)}+${String(m)}`,
    state,
    `${(share * 100).toFixed(1)} %`,
    `${String(readableDrives)} / ${String(writableDrives)}`,
    String(toleratedLosses),
  ])
  return table([['SET', 'SHARDS', 'STATE', 'NEW PARTS', 'DRIVES READABLE/WRITABLE', 'MAY LOSE'], ...rows])
}

function driveText(drives: readonly DriveReport[]): string {
  const rows = drives.map(({ number, set, position, path, healing, metadataCopy, health, segments }) => [
    String(number),
    `${String(set)}/${String(position)}`,
    healing ? `${health.state}, healing` : health.state,
    `${bytes(health.freeBytes)} of ${bytes(health.totalBytes)}`,
    `${health.readP95Ms.toFixed(1)} / ${health.writeP95Ms.toFixed(1)}`,
    `${String(health.errors)} / ${String(health.timeouts)}`,
    segments === null ? '' : `${String(segments.shards)}, ${bytes(segments.bytes)}`,
    metadataCopy ? 'yes' : '',
    path === '' ? '(no directory)' : path,
    health.reason,
  ])
  return table([
    ['DRIVE', 'SET/POS', 'STATE', 'FREE', 'P95 R/W MS', 'ERRORS/TIMEOUTS', 'PACKED', 'METADATA', 'PATH', ''],
    ...rows,
  ])
}
