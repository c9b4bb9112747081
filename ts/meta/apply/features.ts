/** Kinds of commands that came with a later level (command.ts) are refused until the cluster has it. */
import { GROUP_LEVEL } from '../command.js'
import type { Command, CommandKind } from '../command.js'
import { CLUSTER_KEY } from '../keys.js'
import type { ClusterRecord } from '../schema.js'
import { refuse } from './context.js'
import type { Context } from './context.js'

const needs: Partial<Record<CommandKind, number>> = {
  registerNode: GROUP_LEVEL,
  removeNode: GROUP_LEVEL,
  takeLease: GROUP_LEVEL,
  renewLease: GROUP_LEVEL,
  releaseLease: GROUP_LEVEL,
}

export function checkFeature(context: Context, { kind }: Command): void {
  const needed = needs[kind]
  if (needed === undefined) return
  const level = context.tx.read<ClusterRecord>(CLUSTER_KEY)?.featureLevel ?? 1
  if (level < needed)
    refuse('FeatureLevel', `${kind} came with level ${String(needed)}, the cluster has ${String(level)}`)
}
