/**
 * Loads the addon: the only file that does.
 *
 * The functions here are the bare ones of native/addon; erasure.ts, hash.ts and codec.ts give them their public
 * shape. All of them check their arguments strictly and throw a TypeError or RangeError with `code`
 * 'ERR_OSTRAKA_ARGUMENT'; none can crash the process. The addon can be loaded by any number of threads.
 */
import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs';
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
    pieces?: readonly Uint8Array[],
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
  erasureKernel(k: number, m: number): string;

  xxh3_64(data: Uint8Array, seed: bigint): bigint;
  xxh3_128(data: Uint8Array, seed: bigint, out: Uint8Array): void;
  crc32c(data: Uint8Array, running: number): number;
  crc64nvme(data: Uint8Array, running: bigint): bigint;
  md5Start(state: Uint8Array): void;
  md5Update(states: readonly Uint8Array[], pieces: readonly Uint8Array[]): void;
  md5Digest(state: Uint8Array, out: Uint8Array): void;
  md5Of(pieces: readonly Uint8Array[], out: Uint8Array): void;
  checksum64(out: Uint8Array, outOffset: number, parts: readonly Uint8Array[], seed: number): void;
  checksum64Behind(bytes: Uint8Array, from: number, to: number, seed: number): void;
  checksum64Matches(expected: Uint8Array, expectedOffset: number, parts: readonly Uint8Array[], seed: number): boolean;
  sealRecord(record: Uint8Array, key: Uint8Array): void;
  recordMatches(record: Uint8Array, key: Uint8Array): boolean;
  linkRecord(record: Uint8Array, offset: number, key: Uint8Array): void;
  linkMatches(record: Uint8Array, offset: number, key: Uint8Array): boolean;

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
  ioReadNow(client: number, file: number, offset: number, into: Uint8Array): boolean;
  ioExpire(client: number, id: number): number;
  ioClose(client: number): void;
  ioExit(code: number): void;

  indexRegionBytes(maxEntries: number): number;
  indexPadding(bytes: Uint8Array): number;
  indexFormat(region: Uint8Array, maxEntries: number, hashed: 0 | 1): void;
  indexAttach(region: Uint8Array, mailbox: Uint8Array): number;
  /** The number may be given out again. */
  indexDetach(index: number): void;
  indexGet(index: number): void;
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

/** What `code` says in the error of an addon that is not there, or does not load: its message says what to do. */
export const ADDON_ERROR = 'ERR_OSTRAKA_ADDON';

/**
 * The C library that this Node uses ('' where there is no choice); binaries for one do not load into the other. The
 * name of the dynamic loader stands in the first bytes of Node's own binary; a report of the process is slower.
 */
function usedLibc(): 'glibc' | 'musl' | '' {
  if (process.platform !== 'linux') return '';
  const head = Buffer.alloc(4096);
  try {
    const fd = openSync(process.execPath, 'r');
    readSync(fd, head, 0, head.length, 0);
    closeSync(fd);
  } catch {
    // Replaced or unreadable since this process started: the report knows too.
  }
  if (head.includes('/ld-linux')) return 'glibc';
  if (head.includes('/ld-musl')) return 'musl';
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
}

/** Where a binary may be: what was built here, else what the package brought along (prebuildify's layout). */
function candidates(folder: string): string[] {
  const built = join(folder, 'build', 'Release', 'ostraka.node');
  if (existsSync(built)) return [built];
  const platform = join(folder, 'prebuilds', `${process.platform}-${process.arch}`);
  const libc = usedLibc();
  const exact = libc === '' ? [] : [join(platform, `ostraka.${libc}.node`)];
  return [built, ...exact, join(platform, 'ostraka.node')];
}

/** The binaries that the package brought along, as in 'linux-arm64 (glibc)'. */
function broughtAlong(folder: string): string[] {
  const prebuilds = join(folder, 'prebuilds');
  if (!existsSync(prebuilds)) return [];
  return readdirSync(prebuilds)
    .sort()
    .flatMap((platform) => readdirSync(join(prebuilds, platform)).map((file) => ({ platform, file })))
    .map(({ platform, file }) => `${platform} (${file.split('.')[1] ?? file})`.replace(' (node)', ''));
}

/** What can be done about it, for someone who installed the package or who has a clone. */
function advice(brought: readonly string[]): string {
  if (process.platform !== 'linux') {
    return 'Ostraka works with drives through system calls of Linux: run it on Linux, in a container or virtual machine.';
  }
  const clone =
    '`npm run build` in a clone of the repository builds it for this machine; that takes Node 20.20 or newer, git,\n' +
    'python3, make, cmake, g++ 12 or newer and, on x64, nasm. `npm run package` there makes a package with it.';
  return brought.length === 0 ? clone : `Either use one of the machines named above, or build it: ${clone}`;
}

function addonError(message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code: ADDON_ERROR });
}

function load(): NativeAddon {
  const folder = packageFolder();
  const places = candidates(folder);
  const found = places.find((place) => existsSync(place));
  const here = [`${process.platform}-${process.arch}`, usedLibc()].filter((word) => word !== '').join(' with ');
  const brought = broughtAlong(folder);
  const brings = brought.length === 0 ? '' : `This package brings it for: ${brought.join(', ')}.\n`;
  if (found === undefined) {
    const looked = places.map((place) => `  ${place}\n`).join('');
    throw addonError(`The native addon is missing for ${here}; looked for:\n${looked}${brings}${advice(brought)}`);
  }
  try {
    return createRequire(import.meta.url)(found) as NativeAddon;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const glibc = /GLIBC/.test(reason) ? 'The package needs glibc 2.34 or newer.\n' : '';
    throw addonError(
      `The native addon does not load on ${here}: ${reason}\n${glibc}${brings}${advice(brought)}`,
      error,
    );
  }
}

export const addon: NativeAddon = load();
