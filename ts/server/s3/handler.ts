/**
 * The door of the S3 API. One handler serves one worker; it is a plain `request` listener for node:http, and
 * `s3CheckContinue` makes the listener for 'checkContinue' from it:
 *
 *   const handler = createS3Handler(options)
 *   const server = createServer(s3ServerOptions(options.limits), handler)
 *   server.on('checkContinue', s3CheckContinue(handler))
 *   server.on('clientError', s3ClientError)
 */
import type { IncomingMessage, ServerResponse } from 'node:http'

export type { S3Limits, S3Logger, S3Metrics, S3Options, RequestSummary } from './options.js'
export { DEFAULT_S3_LIMITS } from './options.js'

/** `expectContinue`: the client waits for 100 Continue before it sends its body. */
export type S3Handler = (request: IncomingMessage, response: ServerResponse, expectContinue?: boolean) => void

/** Listener for 'checkContinue': 100 Continue is sent only when the body is first wanted. */
export function s3CheckContinue(handler: S3Handler): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => { handler(request, response, true) }
}
