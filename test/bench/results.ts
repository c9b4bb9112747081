/** Results for tests of this folder. */
import type { Environment } from '../../bench/environment.js'
import type { Metrics } from '../../bench/metrics.js'
import type { Result } from '../../bench/result.js'
import { judge } from '../../bench/targets.js'

const environment: Environment = {
  date: '2031-01-02T03:04:05.000Z', cpu: 'a <CPU> & "more"', cores: 2, memoryGiB: 8, kernel: 'linux 1', node: 'v20',
  commit: 'abc', fileSystem: 'ext4 on /dev/x', load: 0.1,
}

export function resultOf(metrics: Metrics, more: Partial<Result> = {}): Result {
  return {
    format: 1, date: environment.date, environment, quick: true, seconds: 3, metrics, spread: {}, notes: {},
    targets: judge(metrics), ...more,
  }
}

/** A little of every part. */
export const examples: Metrics = {
  'kernels.encode_8+4.isal.GB_per_s': 20, 'kernels.encode_8+4.best.GB_per_s': 25, 'kernels.memcpy.best.GB_per_s': 40,
  'kernels.encode_8+4_out_of_L2_best_to_ISA-L.ratio': 1.25,
  'index.1000.get.hit_ns': 12, 'index.1000000.get.hit_ns': 40, 'index.growth.idle.p50_ns': 15,
  'placement.slots.10.select_ns': 4, 'placement.slots.1000.select_ns': 4, 'placement.typedArrayRead_ns': 3,
  'placement.slots.10.add.movement_times': 1, 'placement.maglev.10.add.movement_times': 1.6,
  'drive.4KiBobject.32atatime.put.ops_per_s': 900, 'drive.startup.shards_count': 1000, 'drive.startup.ready_ms': 2, 'drive.startup.empty_ms': 1,
  'flushes.put.4KiB.32clients.per_put_flushes': 0.7,
  'metadata.write.64clients.ops_per_s': 5000, 'metadata.write.64clients.p99_ms': 7, 'metadata.most_lag_ms': 30,
  's3.put.4KiB.1clients.ops_per_s': 100, 's3.put.4KiB.32clients.ops_per_s': 900, 's3.put.4KiB.32clients.p99_ms': 30,
  's3.put.4KiB.32clients.bare.ops_per_s': 9000, 's3.put.4KiB.32clients.percent_of_bare': 10,
  's3.put.4KiB.32clients.o-ther.ops_per_s': 300, 's3.list.2000keys.8clients.ops_per_s': 90,
}
