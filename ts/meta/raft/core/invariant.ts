/**
 * A broken invariant means that this node can no longer be trusted with its log: the error is never caught to
 * carry on, the host stops the node. Checks are on in production.
 */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** For messages that are costly to build. */
export function fail(message: string): never {
  throw new InvariantError(message);
}
