/** Signed calls of a running server's admin API, for `ostraka admin`. */
import { signAdmin } from '../server/admin/signature.js'
import type { AdminKeys } from '../server/admin/signature.js'
import { clientUrl } from '../server/control/banner.js'
import { credentialsPath } from '../server/control/drive_paths.js'
import { readCredentials } from '../server/credentials.js'
import type { Config } from '../server/config/settings.js'

export class Unreachable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'Unreachable'
  }
}

export class AdminClient {
  readonly #url: string
  readonly #keys: AdminKeys

  constructor(config: Config) {
    this.#url = clientUrl(config.adminListen)
    this.#keys =
      config.rootAccessKey !== ''
        ? { accessKey: config.rootAccessKey, secretKey: config.rootSecretKey }
        : readCredentials(credentialsPath(config))
  }

  async get<T>(target: string): Promise<T> {
    return this.#call<T>('GET', target, '')
  }

  async post<T>(target: string, body: object): Promise<T> {
    return this.#call<T>('POST', target, JSON.stringify(body))
  }

  async #call<T>(method: string, target: string, body: string): Promise<T> {
    const authorization = signAdmin({ method, target, body }, this.#keys, Date.now())
    let response: Response
    try {
      response = await fetch(this.#url + target, {
        method,
        headers: { authorization },
        ...(body === '' ? {} : { body }),
      })
    } catch (error) {
      const cause = (error as { cause?: Error }).cause
      throw new Unreachable(`no server answers at ${this.#url}: ${cause?.message ?? String(error)}`, {
        cause: error,
      })
    }
    const answer: unknown = await response.json().catch(() => undefined)
    if (!response.ok) {
      const said =
        typeof answer === 'object' && answer !== null && 'error' in answer ? String(answer.error) : ''
      throw new Error(said === '' ? `the server answered ${String(response.status)}` : said)
    }
    // The server is of the same program; its shapes are those of server/admin/api.ts.
    return answer as T
  }
}
