/**
 * Verifies AWS Signature Version 4, in the Authorization header or in the query of a presigned URL.
 *
 * Order of checks: which mechanism; form of its fields; the access key; the clock; scope (day, region, service);
 * signed headers; the signature. What is signed must include `host` and every x-amz-* header, so that nothing that
 * changes the meaning of a request can be added to it on the way.
 *
 * Errors: S3Error with S3's codes and fields, before any byte of the body is read. Unsigned requests: AccessDenied.
 */
import { S3Error } from '../../store/errors.js'
import { ALGORITHM, type HeaderTable, type SignedHeaders, canonicalRequest, stringToSign } from './canonical.js'
import type { Credential, CredentialSource } from './credentials.js'
import { ChunkSignatures, type PayloadMode, equalSignatures, payloadMode } from './payload.js'
import { SigningKeys, type SigningScope } from './signing_keys.js'
import type { RequestTarget } from './target.js'

export const MAX_SKEW_MS: number = 15 * 60_000
export const MAX_EXPIRES_SECONDS = 604_800

export interface SignedRequest {
  method: string
  target: RequestTarget
  headers: HeaderTable
  /** A region that this request may be signed for besides the server's own. */
  alsoRegion?: string | undefined
}

export interface Verified {
  credential: Credential
  via: 'header' | 'presigned'
  payload: PayloadMode
  /** Present for signed streaming bodies. */
  chunks?: ChunkSignatures
}

export interface VerifierOptions {
  credentials: CredentialSource
  region: string
  /** 's3', or the name of another service behind the same credentials. */
  service: string
  nowMs(): number
}

interface Scope extends SigningScope {
  accessKey: string
  terminal: string
  /** Without the access key, as it is signed. */
  signed: string
}

/** The fields of either mechanism. */
interface Claim {
  scope: Scope
  signedHeaders: SignedHeaders
  signature: string
  /** yyyymmddThhmmssZ, and as it was sent. */
  timestamp: string
  timeText: string
  timeMs: number
}

const TIMESTAMP = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/

/** Requests of one second carry the same text. */
let lastTimestamp = { text: '', ms: undefined as number | undefined }

function parseTimestamp(text: string): number | undefined {
  if (lastTimestamp.text !== text) lastTimestamp = { text, ms: timestampMs(text) }
  return lastTimestamp.ms
}

function timestampMs(text: string): number | undefined {
  const fields = TIMESTAMP.exec(text)
  if (fields === null) return undefined
  const ms = Date.parse(`${fields[1]}-${fields[2]}-${fields[3]}T${fields[4]}:${fields[5]}:${fields[6]}Z`)
  return Number.isNaN(ms) ? undefined : ms
}

function isoSeconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}/, '')
}

function basicTimestamp(ms: number): string {
  return isoSeconds(ms).replace(/[-:]/g, '')
}

/** The only value of a header, undefined when absent. Signature fields sent twice are ambiguous: refused. */
function single(headers: HeaderTable, name: string): string | undefined {
  const values = headers.get(name)
  if (values === undefined) return undefined
  if (values.length > 1) {
    throw new S3Error('InvalidArgument', 'A header that may be sent once was sent more than once.', {
      ArgumentName: name,
    })
  }
  return values[0]?.trim()
}

function headerMalformed(detail: string): S3Error {
  return new S3Error('AuthorizationHeaderMalformed', `The authorization header is malformed; ${detail}`)
}

function queryMalformed(message: string): S3Error {
  return new S3Error('AuthorizationQueryParametersError', message)
}

/** AccessKey/yyyymmdd/region/service/aws4_request; an access key may hold '/'. */
function parseScope(text: string): Scope | undefined {
  const pieces = text.split('/')
  if (pieces.length < 5) return undefined
  const [day, region, service, terminal] = pieces.slice(-4) as [string, string, string, string]
  const accessKey = pieces.slice(0, -4).join('/')
  if (accessKey === '') return undefined
  return { name: text, accessKey, day, region, service, terminal, signed: text.slice(accessKey.length + 1) }
}

function parseSignedHeaders(text: string): SignedHeaders | undefined {
  const names = text.split(';')
  const seen = new Set(names)
  if (names.length > 256 || seen.size !== names.length) return undefined
  return names.every((name) => /^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) ? { names, text } : undefined
}

const CREDENTIAL_FORM = 'expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'

/** What an Authorization header says in front of the signature, with which alone most differ from the one before. */
interface KnownClaim {
  text: string
  scope: Scope
  signedHeaders: SignedHeaders
}

const knownClaims = new Map<string, KnownClaim>()
let lastClaim: KnownClaim | undefined
const MAX_KNOWN_CLAIMS = 256
const MAX_KNOWN_CLAIM = 1024

function knownClaim(authorization: string, length: number): KnownClaim | undefined {
  const text = authorization.slice(0, length)
  if (lastClaim?.text === text) return lastClaim
  const known = knownClaims.get(text)
  if (known !== undefined) lastClaim = known
  return known
}

function headerClaim(authorization: string, headers: HeaderTable): Claim {
  const at = authorization.lastIndexOf('Signature=') + 'Signature='.length
  const known = knownClaim(authorization, at)
  const signature = authorization.slice(at)
  if (known !== undefined && !signature.includes(',')) {
    return signedAt(headers, known.scope, known.signedHeaders, signature.trim())
  }
  const claim = parseHeaderClaim(authorization, headers)
  if (claim.signature === signature.trim() && at <= MAX_KNOWN_CLAIM) {
    if (knownClaims.size >= MAX_KNOWN_CLAIMS) knownClaims.clear()
    const { scope, signedHeaders } = claim
    const text = authorization.slice(0, at)
    knownClaims.set(text, { text, scope, signedHeaders })
  }
  return claim
}

function parseHeaderClaim(authorization: string, headers: HeaderTable): Claim {
  const fields = new Map<string, string>()
  for (const piece of authorization.slice(ALGORITHM.length).split(',')) {
    const trimmed = piece.trim()
    const equals = trimmed.indexOf('=')
    if (equals < 0) throw headerMalformed('the authorization header requires three components: '
      + 'Credential, SignedHeaders, and Signature.')
    const name = trimmed.slice(0, equals)
    if (fields.has(name)) throw headerMalformed(`"${name}" was given more than once.`)
    fields.set(name, trimmed.slice(equals + 1))
  }
  const credential = fields.get('Credential')
  const signed = fields.get('SignedHeaders')
  const signature = fields.get('Signature')
  if (credential === undefined || signed === undefined || signature === undefined || fields.size !== 3) {
    throw headerMalformed('the authorization header requires three components: '
      + 'Credential, SignedHeaders, and Signature.')
  }
  const scope = parseScope(credential)
  if (scope === undefined) throw headerMalformed(`the Credential is mal-formed; ${CREDENTIAL_FORM}`)
  const signedHeaders = parseSignedHeaders(signed)
  if (signedHeaders === undefined) throw headerMalformed('the SignedHeaders component is malformed.')
  return signedAt(headers, scope, signedHeaders, signature)
}

/** The claim, with the time that x-amz-date gives, or Date. */
function signedAt(headers: HeaderTable, scope: Scope, signedHeaders: SignedHeaders, signature: string): Claim {
  const amzDate = single(headers, 'x-amz-date')
  const timeText = amzDate ?? single(headers, 'date')
  let timeMs = timeText === undefined ? undefined : parseTimestamp(timeText)
  if (timeMs === undefined && amzDate === undefined && timeText !== undefined) {
    const parsed = Date.parse(timeText)
    if (!Number.isNaN(parsed)) timeMs = parsed
  }
  if (timeText === undefined || timeMs === undefined) {
    throw new S3Error('AccessDenied', 'AWS authentication requires a valid Date or x-amz-date header')
  }
  const timestamp = amzDate ?? (TIMESTAMP.test(timeText) ? timeText : basicTimestamp(timeMs))
  return { scope, signedHeaders, signature, timestamp, timeText, timeMs }
}

const PRESIGNED = [
  'X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Signature', 'X-Amz-Date', 'X-Amz-SignedHeaders', 'X-Amz-Expires',
] as const

function presignedFields(target: RequestTarget): Record<(typeof PRESIGNED)[number], string> {
  const fields: Partial<Record<(typeof PRESIGNED)[number], string>> = {}
  for (const name of PRESIGNED) {
    const values = target.query.filter((parameter) => parameter.name === name)
    const value = values[0]?.value
    if (value === undefined || values.length > 1) {
      throw queryMalformed('Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, '
        + 'X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.')
    }
    fields[name] = value
  }
  return fields as Record<(typeof PRESIGNED)[number], string>
}

function presignedClaim(target: RequestTarget): Claim & { expiresSeconds: number } {
  const fields = presignedFields(target)
  if (fields['X-Amz-Algorithm'] !== ALGORITHM) {
    throw queryMalformed(`X-Amz-Algorithm only supports "${ALGORITHM}"`)
  }
  const scope = parseScope(fields['X-Amz-Credential'])
  if (scope === undefined) {
    throw queryMalformed(
      `Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; ${CREDENTIAL_FORM}`)
  }
  const expires = fields['X-Amz-Expires']
  if (!/^-?\d{1,15}$/.test(expires)) throw queryMalformed('X-Amz-Expires should be a number')
  const expiresSeconds = Number(expires)
  if (expiresSeconds < 1) throw queryMalformed('X-Amz-Expires must be positive')
  if (expiresSeconds > MAX_EXPIRES_SECONDS) {
    throw queryMalformed(`X-Amz-Expires must be less than a week (in seconds) that is ${MAX_EXPIRES_SECONDS}`)
  }
  const timestamp = fields['X-Amz-Date']
  const timeMs = parseTimestamp(timestamp)
  if (timeMs === undefined) {
    throw queryMalformed('X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd\'T\'HHmmss\'Z\'"')
  }
  const signedHeaders = parseSignedHeaders(fields['X-Amz-SignedHeaders'])
  if (signedHeaders === undefined) throw queryMalformed('The X-Amz-SignedHeaders parameter is malformed.')
  return {
    scope, signedHeaders, signature: fields['X-Amz-Signature'], timestamp, timeText: timestamp, timeMs, expiresSeconds,
  }
}

export class SigV4Verifier {
  readonly #options: VerifierOptions
  readonly #keys: SigningKeys

  constructor(options: VerifierOptions, keys: SigningKeys = new SigningKeys()) {
    this.#options = options
    this.#keys = keys
  }

  /** Throws S3Error when the request is not signed, or not rightly. */
  verify(request: SignedRequest): Verified {
    const authorization = single(request.headers, 'authorization')
    const inQuery = request.target.query.some(({ name }) => name === 'X-Amz-Algorithm' || name === 'X-Amz-Signature')
    refuseOldMechanisms(authorization, request, inQuery)
    if (inQuery) return this.#verifyPresigned(request)
    if (authorization === undefined) throw new S3Error('AccessDenied')
    return this.#verifyHeader(authorization, request)
  }

  #verifyHeader(authorization: string, request: SignedRequest): Verified {
    const content = single(request.headers, 'x-amz-content-sha256')
    if (content === undefined) {
      throw new S3Error('InvalidRequest', 'Missing required header for this request: x-amz-content-sha256')
    }
    const payload = payloadMode(content)
    const claim = headerClaim(authorization, request.headers)
    const credential = this.#credential(claim)
    const nowMs = this.#options.nowMs()
    if (Math.abs(nowMs - claim.timeMs) > MAX_SKEW_MS) {
      throw new S3Error('RequestTimeTooSkewed', '', {
        RequestTime: claim.timeText,
        ServerTime: isoSeconds(nowMs),
        MaxAllowedSkewMilliseconds: String(MAX_SKEW_MS),
      })
    }
    this.#checkScope(request, claim, headerMalformed)
    return this.#checkSignature(request, claim, credential, content, payload, 'header')
  }

  #verifyPresigned(request: SignedRequest): Verified {
    const claim = presignedClaim(request.target)
    const inQuery = request.target.query.filter(({ name }) => name.toLowerCase() === 'x-amz-content-sha256')
    const content = inQuery[0]?.value ?? single(request.headers, 'x-amz-content-sha256') ?? 'UNSIGNED-PAYLOAD'
    const payload = payloadMode(content)
    const credential = this.#credential(claim)
    const nowMs = this.#options.nowMs()
    if (claim.timeMs - nowMs > MAX_SKEW_MS) {
      throw new S3Error('AccessDenied', 'Request is not yet valid')
    }
    if (nowMs > claim.timeMs + claim.expiresSeconds * 1000) {
      throw new S3Error('AccessDenied', 'Request has expired', {
        'X-Amz-Expires': String(claim.expiresSeconds),
        Expires: isoSeconds(claim.timeMs + claim.expiresSeconds * 1000),
        ServerTime: isoSeconds(nowMs),
      })
    }
    this.#checkScope(request, claim, (detail) => (
      queryMalformed(`Error parsing the X-Amz-Credential parameter; ${detail}`)))
    return this.#checkSignature(request, claim, credential, content, payload, 'presigned')
  }

  #credential(claim: Claim): Credential {
    const credential = this.#options.credentials.lookup(claim.scope.accessKey)
    if (credential === undefined) {
      throw new S3Error('InvalidAccessKeyId', '', { AWSAccessKeyId: claim.scope.accessKey })
    }
    return credential
  }

  #checkScope(request: SignedRequest, claim: Claim, fail: (detail: string) => S3Error): void {
    const { scope } = claim
    const { region, service } = this.#options
    if (scope.terminal !== 'aws4_request') {
      throw fail(`incorrect terminal "${scope.terminal}". This endpoint uses "aws4_request".`)
    }
    if (scope.service !== service) {
      throw fail(`incorrect service "${scope.service}". This endpoint belongs to "${service}".`)
    }
    if (scope.region !== region && scope.region !== request.alsoRegion) {
      const { code, message } = fail(`the region '${scope.region}' is wrong; expecting '${region}'`)
      // Clients read the right region from the field or, for HEAD, from the header, and try again.
      throw new S3Error(code, message, { Region: region }, { 'x-amz-bucket-region': region })
    }
    if (scope.day !== claim.timestamp.slice(0, 8)) {
      throw fail(`Invalid credential date "${scope.day}". `
        + `This date is not the same as X-Amz-Date: "${claim.timestamp.slice(0, 8)}".`)
    }
  }

  #checkSignature(
    request: SignedRequest, claim: Claim, credential: Credential, payloadHash: string, payload: PayloadMode,
    via: 'header' | 'presigned',
  ): Verified {
    refuseUnsignedHeaders(request.headers, claim.signedHeaders.names)
    const { signed } = claim.scope
    const key = this.#keys.get(credential, claim.scope)
    const spell = (asSent: boolean): { canonical: string; text: string; signature: string } => {
      const { method, target, headers } = request
      const canonical = canonicalRequest(method, target, headers, claim.signedHeaders, payloadHash, asSent)
      const text = stringToSign(claim.timestamp, signed, canonical)
      return { canonical, text, signature: key.sign(text) }
    }
    const expected = spell(false)
    let accepted = equalSignatures(expected.signature, claim.signature)
    if (!accepted) {
      const sent = spell(true)
      accepted = sent.canonical !== expected.canonical && equalSignatures(sent.signature, claim.signature)
    }
    if (!accepted) {
      throw new S3Error('SignatureDoesNotMatch', '', {
        AWSAccessKeyId: credential.accessKey,
        StringToSign: expected.text,
        SignatureProvided: claim.signature,
        CanonicalRequest: expected.canonical,
      })
    }
    if (single(request.headers, 'x-amz-security-token') !== undefined
      || request.target.query.some(({ name }) => name === 'X-Amz-Security-Token')) {
      throw new S3Error('InvalidToken')
    }
    if (payload.kind !== 'streaming' || !payload.signed) return { credential, via, payload }
    return { credential, via, payload, chunks: new ChunkSignatures(key, claim.timestamp, signed, claim.signature) }
  }
}

function refuseOldMechanisms(authorization: string | undefined, request: SignedRequest, inQuery: boolean): void {
  if (authorization !== undefined && inQuery) {
    throw new S3Error('InvalidArgument', 'Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, '
      + 'Signature query string parameter or the Authorization header should be specified', {
      ArgumentName: 'Authorization', ArgumentValue: authorization,
    })
  }
  const queryV2 = request.target.query.some(({ name }) => name === 'AWSAccessKeyId')
  if (authorization?.startsWith('AWS ') === true || (queryV2 && !inQuery)) {
    throw new S3Error('InvalidRequest',
      `The authorization mechanism you have provided is not supported. Please use ${ALGORITHM}.`)
  }
  if (authorization === undefined) return
  if (authorization.startsWith('AWS4-ECDSA-P256-SHA256')) throw new S3Error('UnsupportedSignature')
  if (!authorization.startsWith(ALGORITHM + ' ')) {
    throw new S3Error('InvalidArgument', 'Unsupported Authorization Type', {
      ArgumentName: 'Authorization', ArgumentValue: authorization,
    })
  }
}

function refuseUnsignedHeaders(headers: HeaderTable, signedHeaders: readonly string[]): void {
  const missing = signedHeaders.includes('host') ? [] : ['host']
  for (const name of headers.keys()) {
    if (name.startsWith('x-amz-') && !signedHeaders.includes(name)) missing.push(name)
  }
  if (missing.length > 0) {
    throw new S3Error('AccessDenied', 'There were headers present in the request which were not signed', {
      HeadersNotSigned: missing.join(', '),
    })
  }
}
