/** The routes of the JSON admin API. Bodies are checked here; what they ask for is done by the server's state. */
import { existsSync } from 'node:fs'
import { dirname, isAbsolute } from 'node:path'

import { z } from 'zod'

import { PlacementError } from '../../layout/errors.js'
import type { PlacementErrorCode } from '../../layout/errors.js'
import { MAX_SET } from '../../layout/targets.js'
import { parseAddress } from '../../rpc/transport.js'
import type { ServerState } from '../control/state.js'
import { ChannelError } from '../threads/channel.js'
import { memberAction } from '../rpc/node_calls.js'
import type { MemberAction } from '../rpc/node_calls.js'
import { AdminError } from './admin_server.js'
import type { AdminAnswer, AdminRoute } from './admin_server.js'
import type { MetadataReport } from './api.js'

const scrubBody = z.strictObject({ action: z.enum(['start', 'stop']) })
const healBody = z.strictObject({ action: z.literal('start') })
const driveBody = z.strictObject({
  action: z.enum(['takeOut', 'bringBack']),
  drive: z.int().min(1).max(65_535),
})
const setBody = z.strictObject({
  action: z.enum(['active', 'readOnly']),
  set: z.int().min(0).max(MAX_SET),
})
const metadataBody = z.discriminatedUnion('action', [
  z.strictObject({ action: z.literal('backup'), path: z.string().min(1).max(4096) }),
  z.strictObject({ action: z.literal('enableCollection') }),
])
const anyAction = z.looseObject({ action: z.string() })
const MEMBER_ACTIONS = ['addNode', 'removeNode', 'promote', 'transferLeadership']

/** Why the state of a set cannot be changed, in an operator's words. */
const SET_PROBLEMS: Partial<Record<PlacementErrorCode, string>> = {
  badTarget: 'the layout has no such set (a cluster of one set has no layout)',
  noTarget: 'no other set would take new parts',
}

const DONE: AdminAnswer = { status: 200, body: { done: true } }

export function adminRoutes(state: ServerState): ReadonlyMap<string, AdminRoute> {
  const ok = (body: unknown): AdminAnswer => ({ status: 200, body })
  return new Map<string, AdminRoute>([
    ['GET /admin/v1/status', async () => ok(await state.status())],
    ['GET /admin/v1/drives', () => ok(state.drives())],
    [
      'POST /admin/v1/drives',
      async (body) => {
        const { action, drive } = parse(driveBody, body)
        if (!(await state.registry.operate(drive, action)))
          throw new AdminError(404, `there is no drive ${String(drive)} here`)
        return DONE
      },
    ],
    ['GET /admin/v1/sets', () => ok(state.sets())],
    [
      'POST /admin/v1/sets',
      async (body) => {
        const { action, set } = parse(setBody, body)
        try {
          await state.registry.changeSetState(set, action)
        } catch (error) {
          if (error instanceof PlacementError) throw new AdminError(409, SET_PROBLEMS[error.code] ?? error.message)
          throw error
        }
        return DONE
      },
    ],
    [
      'GET /admin/v1/background',
      async () => {
        const progress = await state.background()
        if (progress === null) throw new AdminError(503, 'the background thread does not answer')
        return ok(progress)
      },
    ],
    [
      'POST /admin/v1/heal',
      (body) => {
        parse(healBody, body)
        for (const set of state.sets()) state.pools.tellBackground('driveReturned', { set: set.number })
        return DONE
      },
    ],
    [
      'POST /admin/v1/scrub',
      (body) => {
        state.pools.tellBackground('scrub', parse(scrubBody, body))
        return DONE
      },
    ],
    [
      'GET /admin/v1/metadata',
      async () => {
        const [status, cluster] = await Promise.all([state.metadataStatus(), state.cluster()])
        return ok({ status, cluster, backup: state.backup } satisfies MetadataReport)
      },
    ],
    ['GET /admin/v1/metadata/digest', async () => ok(await needReplica(state).digest())],
    [
      'POST /admin/v1/metadata',
      async (body) => {
        if (MEMBER_ACTIONS.includes(parse(anyAction, body).action)) {
          return ok({ node: await changeMembers(needReplica(state), parse(memberAction, body)) })
        }
        const wanted = parse(metadataBody, body)
        if (wanted.action === 'enableCollection') {
          await state.enableCollection()
          return DONE
        }
        checkBackupPath(wanted.path)
        if (!state.startBackup(wanted.path)) throw new AdminError(409, 'a backup is running')
        return DONE
      },
    ],
  ])
}

/** What would make a backup fail before it begins is said at once. */
function checkBackupPath(path: string): void {
  if (!isAbsolute(path))
    throw new AdminError(400, 'path: expected an absolute path of a directory that does not exist yet')
  if (existsSync(path)) throw new AdminError(409, `${path} exists already: a backup makes its directory`)
  if (!existsSync(dirname(path)))
    throw new AdminError(409, `there is no directory ${dirname(path)} on the server to put the backup in`)
}

function needReplica(state: ServerState): ServerState {
  if (state.replicated) return state
  throw new AdminError(409, 'this store is not replicated: metadata.engine is local')
}

/** What the group refuses is the caller's to know; what became of a change that took too long is not known. */
async function changeMembers(state: ServerState, wish: MemberAction): Promise<number> {
  if (wish.action === 'addNode' && parseAddress(wish.address) === undefined) {
    throw new AdminError(400, `address: expected host:port, was given ${wish.address.slice(0, 100)}`)
  }
  try {
    return await state.changeMembers(wish)
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error
    throw new AdminError(error.code === 'failed' ? 409 : 503, error.message)
  }
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new AdminError(
    400,
    `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'the body is not as expected'}`,
  )
}
