/** Derived signing keys, so that a request costs one HMAC instead of five. Bounded; the oldest entry leaves first. */
import { signingKey } from './canonical.js'
import type { Credential } from './credentials.js'
import { HmacKey } from './hmac.js'

export interface SigningScope {
  /** All of it as it is sent: access key, day, region, service and terminal. */
  name: string
  /** yyyymmdd */
  day: string
  region: string
  service: string
}

export class SigningKeys {
  readonly #limit: number
  readonly #keys = new Map<string, { secretKey: string; key: HmacKey }>()

  constructor(limit = 1024) {
    this.#limit = limit
  }

  get size(): number {
    return this.#keys.size
  }

  /**
   * The key of this credential for a scope that names it. An entry is valid only for the secret it was derived from, so
   * a changed secret takes effect at once.
   */
  get(credential: Credential, scope: SigningScope): HmacKey {
    const { name, day, region, service } = scope
    const there = this.#keys.get(name)
    if (there !== undefined && there.secretKey === credential.secretKey) return there.key
    const key = new HmacKey(signingKey(credential.secretKey, day, region, service))
    this.#keys.delete(name)
    if (this.#keys.size >= this.#limit) {
      const oldest = this.#keys.keys().next()
      if (oldest.done !== true) this.#keys.delete(oldest.value)
    }
    this.#keys.set(name, { secretKey: credential.secretKey, key })
    return key
  }
}
