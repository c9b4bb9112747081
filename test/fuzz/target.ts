/** What a fuzz target is, and what targets share. */

/**
 * A target takes any bytes; what it may throw is what the parser documents, and everything else, or an answer that
 * breaks the parser's promise, is a finding.
 */
export interface FuzzTarget {
  readonly name: string
  /** Valid inputs to start from, beside those of the corpus folder. */
  readonly seeds: readonly Buffer[]
  run(input: Buffer): void | Promise<void>
}

/** Runs `work`, which may throw errors of these classes only. */
export async function may(
  classes: readonly (abstract new (...args: never[]) => Error)[], work: () => unknown,
): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!classes.some((known) => error instanceof known)) throw error
  }
}

/** Pieces whose lengths the input itself decides, so that a finding can be repeated. */
export async function* split(input: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0, piece = 1; at < input.length; at += piece) {
    piece = 1 + ((input[at] ?? 0) % 61)
    yield await Promise.resolve(input.subarray(at, at + piece))
  }
}
