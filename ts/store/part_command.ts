/**
 * Proposing the command that gives a stored part its owner, so that it has its effect once.
 *
 * It carries no request id: the data id is one. `apply` takes a data id once and refuses it ever after, which saves
 * half of the records that a small PUT would write. When the answer to an attempt was lost, the next attempt's refusal
 * is judged by the owner record:
 *
 * - the data id was owned by a bucket: the lost attempt was applied, whatever became of the object since;
 * - it was discarded, and this attempt was not refused for that: the attempt's own refusal stands;
 * - else a lost attempt was refused, nobody knows why: the outcome stays unknown.
 *
 * Why the record is still there to be judged: it goes only when its garbage is collected. Garbage that the lost attempt
 * has made possible is newer than the position held here (`Pins.hold`), and so is left alone. An attempt that comes in
 * after a later one finds the data id used, and does nothing.
 */
import type { PartLocation } from '../erasure/erasure_set.js'
import type { Command, CommandResult } from '../meta/command.js'
import { OutcomeUnknown, type StoreContext } from './context.js'

type Refused = Extract<CommandResult, { ok: false }>

/** A command that carries a part. */
export type PartCommand = Extract<Command, { kind: 'putObject' | 'putPart' }>

/** Errors as of `StoreContext.propose`. The value may lack what the proposer knows itself. */
export async function proposePart(
  context: StoreContext, command: PartCommand, location: PartLocation,
): Promise<CommandResult> {
  const release = context.pins.hold(context.metadata.reader)
  try {
    const { result, again } = await context.attempt(command)
    return result.ok || !again ? result : judge(context, result, location)
  } finally {
    release()
  }
}

/** What became of a command whose later attempt was refused. */
function judge(context: StoreContext, result: Refused, location: PartLocation): CommandResult {
  let owned: boolean
  try {
    owned = context.look((reader) => reader.wasOwned(location.set, location.dataId))
  } catch (error) {
    throw new OutcomeUnknown(error)
  }
  if (owned) return { ok: true, order: result.order, value: {} }
  if (result.refusal === 'Conflict') throw new OutcomeUnknown(new Error(result.detail))
  return result
}
