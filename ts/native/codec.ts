/** Compression with zstd. Failures that lie in the data throw an Error with `code` 'ERR_OSTRAKA_CODEC'. */
import { addon } from './addon.js';

/** Compresses into one frame that carries its content size. `level` is -7..19; at most 2 GiB of data. */
export function zstdCompress(data: Uint8Array, level = 3): Buffer {
  return addon.zstdCompress(data, level);
}

/**
 * Expands exactly one frame that says its content size. Refuses anything else, and what says that it is larger than
 * `maxSize` before anything is allocated for it.
 */
export function zstdDecompress(data: Uint8Array, maxSize: number): Buffer {
  return addon.zstdDecompress(data, maxSize);
}
