/**
 * Loads the addon: the only file that does.
 *
 * The functions here are the bare ones of native/addon; erasure.ts, hash.ts and codec.ts give them their public
 * shape. All of them check their arguments strictly and throw a TypeError or RangeError with `code`
 * 'ERR_OSTRAKA_ARGUMENT'; none can crash the process. The addon can be loaded by any number of threads.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** See native/index/shard_index.h. */
export interface IndexStatistics {
  entries: number;
  tombstones: number;
  /** Slots of the pieces in use; entries / slots is the load. */
  slots: number;
  pieces: number;
  /** Bits of hash that the directory looks at. */
  depth: number;
  /** Memory touched so far. */
  regionBytes: number;
  splits: number;
  enlargements: number;
  cleanings: number;
  /** Slots looked at to find every entry once; the most for one entry. */
  probesTotal: number;
  probesMost: number;
  /** Most entries under one hash: more than 1 only in the hashed form. */
  sameHashMost: number;
}

export interface NativeAddon {
  encode(k: number, m: number, blockSize: number, data: readonly Uint8Array[], parity: readonly Uint8Array[]): void;
  reconstruct(
    k: number,
    m: number,
    blockSize: number,
    blocks: readonly (Uint8Array | null)[],
    wanted: readonly number[],
    out: readonly Uint8Array[],
  ): void;
  parityAgrees(k: number, m: number, blockSize: number, blocks: readonly Uint8Array[]): boolean;
  sealStripe(
    slab: Uint8Array,
    k: number,
    m: number,
    blockSize: number,
    stride: number,
    dataId: Uint8Array,
    blockNumber: number,
  ): void;
  sealBlock(cell: Uint8Array, dataId: Uint8Array, shard: number, blockNumber: number): void;
  verifyCells(
    cells: Uint8Array,
    blockSize: number,
    cellCount: number,
    lastBlockSize: number,
    dataId: Uint8Array,
    shard: number,
    firstBlock: number,
  ): number;
  erasureKernel(outputs: number): string;

  xxh3_64(data: Uint8Array, seed: bigint): bigint;
  xxh3_128(data: Uint8Array, seed: bigint, out: Uint8Array): void;
  crc32c(data: Uint8Array, running: number): number;
  crc64nvme(data: Uint8Array, running: bigint): bigint;
  md5Start(state: Uint8Array): void;
  md5Update(states: readonly Uint8Array[], pieces: readonly Uint8Array[]): void;
  md5Digest(state: Uint8Array, out: Uint8Array): void;
  checksum64(out: Uint8Array, outOffset: number, parts: readonly Uint8Array[], seed: number): void;
  checksum64Matches(expected: Uint8Array, expectedOffset: number, parts: readonly Uint8Array[], seed: number): boolean;

  zstdCompress(data: Uint8Array, level: number): Buffer;
  zstdDecompress(data: Uint8Array, maxSize: number): Buffer;

  ioConnect(receiver: (numbers: Float64Array, names: string[]) => void): void;
  ioOpen(path: string, threads: number, queueLength: number): number;
  ioSubmit(
    client: number,
    id: number,
    background: number,
    deadlineMs: number,
    numbers: Float64Array,
    paths: string,
    buffers: readonly Uint8Array[],
  ): number;
  ioTake(id: number, into: readonly Uint8Array[]): void;
  ioExpire(client: number, id: number): number;
  ioClose(client: number): void;
  ioExit(code: number): void;

  indexRegionBytes(maxEntries: number): number;
  indexPadding(bytes: Uint8Array): number;
  indexFormat(region: Uint8Array, maxEntries: number, hashed: 0 | 1): void;
  indexAttach(region: Uint8Array, mailbox: Uint8Array): number;
  indexGet(index: number): number;
  indexInsert(index: number, location: number): number;
  indexCompareAndSet(index: number, expected: number, location: number): number;
  indexRemove(index: number, expected?: number): number;
  indexGetMany(index: number, ids: Uint8Array, locations: Uint8Array): number;
  indexCandidates(index: number, locations: Uint8Array): number;
  indexInsertHashed(index: number, location: number, seen: Uint8Array, seenCount: number): number;
  indexIterate(
    index: number,
    cursor: bigint,
    ids: Uint8Array,
    locations: Uint8Array,
  ): { count: number; cursor: bigint } | null;
  indexLength(index: number): number;
  indexClear(index: number): void;
  indexReserve(index: number, entries: number): boolean;
  indexStatistics(index: number): IndexStatistics;
  indexNothing(): void;

  bindReusePort(host: string, port: number): { fd: number; port: number };
  setThreadNice(nice: number): void;
}

/** The nearest folder upwards that holds package.json: this file runs from dist/, at a depth that may change. */
function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('the addon cannot be found: no package.json above ' + import.meta.url);
    folder = parent;
  }
  return folder;
}

/** True when this Node uses musl rather than glibc: their binaries do not mix. */
function usesMusl(): boolean {
  if (process.platform !== 'linux') return false;
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime === undefined;
}

/** Where a binary may be: what was built here, else what the package brought along (prebuildify's layout). */
function candidates(folder: string): string[] {
  const built = join(folder, 'build', 'Release', 'ostraka.node');
  if (existsSync(built)) return [built];
  const platform = join(folder, 'prebuilds', `${process.platform}-${process.arch}`);
  const libc = process.platform !== 'linux' ? '' : usesMusl() ? '.musl' : '.glibc';
  return [built, join(platform, `ostraka${libc}.node`), join(platform, 'ostraka.node')];
}

function load(): NativeAddon {
  const places = candidates(packageFolder());
  const found = places.find((place) => existsSync(place));
  if (found === undefined) {
    throw new Error(
      `The native addon is missing for ${process.platform}-${process.arch}; looked for:\n` +
        places.map((place) => `  ${place}\n`).join('') +
        'In a clone of the repository, `npm run build` builds it.',
    );
  }
  return createRequire(import.meta.url)(found) as NativeAddon;
}

export const addon: NativeAddon = load();
