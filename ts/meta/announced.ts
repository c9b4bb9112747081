/**
 * Clients that have announced a group of commands (store/commit_gate.ts): the commands of others wait for it, so that
 * one batch of the log, and its flushes, serve several threads.
 *
 * Only what was announced before the first waiting command is waited for. A thread begins its next group as soon as the
 * commands of the last have gone out; if those waited for that group as well, groups would never overlap.
 */
export class Announced {
  readonly #awaited = new Set<object>()
  readonly #next = new Set<object>()

  /** True while commands should wait. */
  get awaited(): boolean {
    return this.#awaited.size > 0
  }

  /** A client has announced commands, or has none announced any more. `waiting`: there are commands that wait. */
  say(client: object, announced: boolean, waiting: boolean): void {
    if (announced) {
      if (waiting) this.#next.add(client)
      else this.#awaited.add(client)
    } else {
      this.#awaited.delete(client)
      this.#next.delete(client)
    }
  }

  /** What waited has been taken. */
  taken(): void {
    for (const client of this.#next) this.#awaited.add(client)
    this.#next.clear()
  }

  /** What did not come in time is waited for no more. */
  giveUp(): void {
    this.#awaited.clear()
  }
}
