/**
 * The directories of a drive: `tmp` for files being written, `segments` for packed shards, `shards` with 256
 * directories (see shard_file.ts).
 */
import type { DriveIo, IoOp } from './io.js'

/** The directories that hold shard files. */
export const SHARD_DIRECTORIES: readonly string[] = Array.from(
  { length: 256 },
  (_, i) => `shards/${i.toString(16).padStart(2, '0')}`,
)

/** Makes them, durably. Does nothing to what exists. */
export async function prepareLayout(io: DriveIo): Promise<void> {
  await io.run([
    { op: 'makeDir', path: 'tmp' }, { op: 'makeDir', path: 'segments' }, { op: 'makeDir', path: 'shards' },
    ...SHARD_DIRECTORIES.map((path): IoOp => ({ op: 'makeDir', path })),
    { op: 'syncDir', path: 'shards' }, { op: 'syncDir', path: '.' },
  ])
}
