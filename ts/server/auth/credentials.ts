/**
 * Where secret keys come from. The lookup is synchronous, since it is on the path of every request: a source that
 * has to fetch keeps its own table and is refreshed beside it.
 */
export interface Credential {
  accessKey: string
  secretKey: string
  /** Owner id of what is created with this key. */
  ownerId: string
}

export interface CredentialSource {
  /** undefined: no such access key. */
  lookup(accessKey: string): Credential | undefined
}

/** A fixed table, for the root credential. */
export function fixedCredentials(credentials: readonly Credential[]): CredentialSource {
  const table = new Map(credentials.map((credential) => [credential.accessKey, credential]))
  return { lookup: (accessKey) => table.get(accessKey) }
}
