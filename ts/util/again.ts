/**
 * Work that goes on once at a time, and is done again when it is asked for meanwhile: what it began from may be out of
 * date by then. However often it is asked for, it is done once more, for the newest asking.
 */
export class Again<Asked> {
  readonly #work: (asked: Asked) => Promise<void>
  #busy = false
  #asked: { of: Asked } | undefined

  /** `work` does not reject. */
  constructor(work: (asked: Asked) => Promise<void>) {
    this.#work = work
  }

  /** Begins at once, or when what goes on has ended. */
  ask(of: Asked): void {
    this.#asked = { of }
    if (!this.#busy) void this.#run()
  }

  async #run(): Promise<void> {
    this.#busy = true
    for (let asked = this.#take(); asked !== undefined; asked = this.#take()) await this.#work(asked.of)
    // In the same turn in which nothing was asked for: who asks later begins anew.
    this.#busy = false
  }

  #take(): { of: Asked } | undefined {
    const asked = this.#asked
    this.#asked = undefined
    return asked
  }
}
