/**
 * How the heaps of the server's threads grow.
 *
 * V8 starts a full collection when the old generation, with what buffers hold outside the heap, comes closer to its
 * limit than the size of the young generation. The limit follows what survives, and our threads keep 15 MiB or so: so
 * buffers that live for milliseconds started three full collections a second on every thread, which found nothing.
 * They stopped the metadata thread for 10 ms each and took a tenth of the machine. A floor under the limit, well above
 * the young generation, makes them rare; what it costs is memory, at most so much for each thread.
 */
import { setFlagsFromString } from 'node:v8'

const FLOOR_MB = 128

/** Call before the threads are started: the flag is read when a heap is set up. */
export function raiseHeapFloor(): void {
  setFlagsFromString(`--initial-old-space-size=${String(FLOOR_MB)}`)
}
