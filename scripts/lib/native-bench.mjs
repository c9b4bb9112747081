/**
 * node scripts/lib/native-bench.mjs TARGET: builds one of the C++ benchmarks with cmake, as build/bench/TARGET. Quick
 * when nothing changed.
 */
import { join } from 'node:path';
import { needProgram } from './apt.mjs';
import { root, run } from './run.mjs';

const folder = join(root, 'build', 'bench');
const cmake = await needProgram('cmake');
await needProgram('g++');
await needProgram('make');
await run(cmake, ['-S', root, '-B', folder, '-DOSTRAKA_BENCH=ON', '-DCMAKE_BUILD_TYPE=Release']);
await run(cmake, ['--build', folder, '--target', process.argv[2] ?? 'index_bench']);
