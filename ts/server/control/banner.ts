/**
 * What the operator reads on standard output once the server serves: where, with which credentials, and how to begin.
 */
import type { HostPort } from '../config/units.js'
import { showHostPort } from '../config/units.js'
import type { Credentials } from '../credentials.js'

export interface BannerFacts {
  version: string
  endpoint: HostPort
  admin: HostPort
  region: string
  credentials: Credentials
  drives: string
}

/** An address that a client on this machine can use. */
export function clientUrl(address: HostPort): string {
  const anywhere = address.host === '0.0.0.0' ? '127.0.0.1' : address.host === '::' ? '::1' : address.host
  return `http://${showHostPort({ ...address, host: anywhere })}`
}

export function banner(facts: BannerFacts): string {
  const url = clientUrl(facts.endpoint)
  const { credentials, region } = facts
  const setUp =
    credentials.file === ''
      ? [
          'export AWS_ACCESS_KEY_ID=...  AWS_SECRET_ACCESS_KEY=...   # as configured',
          `export AWS_REGION=${region}`,
        ]
      : [`export AWS_SHARED_CREDENTIALS_FILE='${credentials.file}'`, `export AWS_REGION=${region}`]
  const where =
    credentials.file === ''
      ? 'as configured'
      : `${credentials.file}${credentials.created ? ' (made just now; only you can read it)' : ''}`
  const lines = [
    '',
    `Ostraka ${facts.version} is serving ${facts.drives}.`,
    '',
    `  S3 endpoint   ${url}`,
    `  Admin         ${clientUrl(facts.admin)}   /metrics  /health/ready  and ostraka admin status`,
    `  Credentials   ${where}`,
    '',
    'With the AWS CLI:',
    '',
    ...setUp.map((line) => `  ${line}`),
    `  aws --endpoint-url ${url} s3 mb s3://first`,
    `  aws --endpoint-url ${url} s3 cp README.md s3://first/`,
    `  aws --endpoint-url ${url} s3 ls s3://first/`,
    '',
    'With the AWS SDK for JavaScript, in the same shell:',
    '',
    "  import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'",
    `  const s3 = new S3Client({ endpoint: '${url}', region: '${region}', forcePathStyle: true })`,
    "  await s3.send(new PutObjectCommand({ Bucket: 'first', Key: 'hello.txt', Body: 'hello' }))",
    '',
  ]
  return `${lines.join('\n')}\n`
}
