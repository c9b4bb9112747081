/** SDK clients of a spawned server, and data that can be checked without being kept. */
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'

import {
  CreateBucketCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import { Client as MinioClient } from 'minio'

import { ROOT_KEYS } from '../../bench/load/server_process.js'
import type { ServerProcess } from '../../bench/load/server_process.js'

export const REGION = 'us-east-1'
export const LONG = process.env.OSTRAKA_TEST_LONG !== undefined && process.env.OSTRAKA_TEST_LONG !== ''

/** A client with the SDK's own defaults (checksums among them); retries off so that every error is seen. */
export function sdkClient(server: ServerProcess, options: S3ClientConfig = {}): S3Client {
  return new S3Client({
    endpoint: server.endpoint,
    region: REGION,
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: { accessKeyId: ROOT_KEYS.accessKey, secretAccessKey: ROOT_KEYS.secretKey },
    ...options,
  })
}

export function minioClient(server: ServerProcess): MinioClient {
  const url = new URL(server.endpoint)
  return new MinioClient({
    endPoint: url.hostname,
    port: Number(url.port),
    useSSL: false,
    region: REGION,
    pathStyle: true,
    accessKey: ROOT_KEYS.accessKey,
    secretKey: ROOT_KEYS.secretKey,
  })
}

export async function makeBucket(client: S3Client, Bucket: string): Promise<void> {
  await client.send(new CreateBucketCommand({ Bucket }))
}

export async function put(client: S3Client, Bucket: string, Key: string, Body: Uint8Array): Promise<void> {
  await client.send(new PutObjectCommand({ Bucket, Key, Body }))
}

export async function get(client: S3Client, Bucket: string, Key: string): Promise<Uint8Array> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }))
  if (Body === undefined) throw new Error('no body')
  return Body.transformToByteArray()
}

/** Every key of a bucket, by the listing's pages. */
export async function listAll(client: S3Client, Bucket: string): Promise<string[]> {
  const keys: string[] = []
  let ContinuationToken: string | undefined
  do {
    const page = await client.send(
      new ListObjectsV2Command({ Bucket, ...(ContinuationToken === undefined ? {} : { ContinuationToken }) }),
    )
    for (const object of page.Contents ?? []) keys.push(object.Key ?? '')
    ContinuationToken = page.NextContinuationToken
  } while (ContinuationToken !== undefined)
  return keys
}

export function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

/** `size` random bytes, so that no compression and no pattern hides a mix-up. */
export function randomBody(size: number): Buffer {
  return randomBytes(size)
}

/** A repeatable stream of `size` bytes: block n is n in every word. Hash with `streamHash`. */
export function patternStream(size: number): Readable {
  return Readable.from(patternBlocks(size), { objectMode: false, highWaterMark: 1 << 20 })
}

export function* patternBlocks(size: number): Generator<Buffer> {
  const blockSize = 1 << 20
  for (let at = 0, n = 0; at < size; at += blockSize, n++) {
    const block = Buffer.alloc(Math.min(blockSize, size - at))
    const words = new Uint32Array(block.buffer, block.byteOffset, Math.floor(block.length / 4))
    for (let i = 0; i < words.length; i++)
      words[i] = Math.imul(n + 1, 0x9e3779b1) ^ Math.imul(i + 1, 0x85ebca6b)
    yield block
  }
}

export function patternHash(size: number): string {
  const hash = createHash('sha256')
  for (const block of patternBlocks(size)) hash.update(block)
  return hash.digest('hex')
}

export async function streamHash(stream: AsyncIterable<Uint8Array>): Promise<{ hash: string; size: number }> {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of stream) {
    hash.update(chunk)
    size += chunk.length
  }
  return { hash: hash.digest('hex'), size }
}

/** Waits until `ready` holds; only a fault makes it wait long. */
export async function eventually(
  what: string,
  ready: () => boolean | Promise<boolean>,
  withinMs = 120_000,
): Promise<void> {
  for (const until = Date.now() + withinMs; Date.now() < until;) {
    if (await ready()) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`${what}: did not come about in ${String(withinMs)} ms`)
}
