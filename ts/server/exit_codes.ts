/** Exit codes of the `ostraka` command; documented in docs/operations.md. */
export const EXIT = {
  /** Done, or stopped in order. */
  ok: 0,
  /** Something unforeseen; the log says what. */
  failure: 1,
  /** The command line or configuration is wrong. */
  usage: 2,
  /** The drives were refused: locked, of another cluster, in the wrong place, of a newer format, too few. */
  drives: 3,
  /** An address is in use or cannot be listened on. */
  address: 4,
  /** `admin`: the server could not be reached. */
  unreachable: 5,
} as const
