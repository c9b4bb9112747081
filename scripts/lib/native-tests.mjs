/**
 * The C++ unit tests, built with cmake and run by ctest: all of them under AddressSanitizer and
 * UndefinedBehaviorSanitizer, those of structures that threads share under ThreadSanitizer too, those of the kernels
 * for arm64 in an emulator.
 *
 * node scripts/lib/native-tests.mjs: those for arm64 alone.
 */
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addPackage, needProgram, unpackedTools } from './apt.mjs';
import { root, run, say } from './run.mjs';

/** Where cmake finds doctest's header and package files; the Debian package is added when it is missing. */
async function doctestPrefix() {
  const places = ['/usr', '/usr/local', join(unpackedTools(), 'usr')];
  const find = () => places.find((place) => existsSync(join(place, 'include', 'doctest', 'doctest.h')));
  if (find() === undefined) await addPackage('doctest-dev');
  const found = find();
  if (found === undefined) throw new Error('doctest is missing: install the package doctest-dev');
  return found;
}

/** What the tests of the arm64 kernels are made of, beside the kernels and native/sources.json's neon_tests. */
const neonSources = [
  'native/cpu/cpu.cc',
  'native/erasure/gf256.cc',
  'native/erasure/kernel.cc',
  'native/erasure/kernel_portable.cc',
  'native/erasure/code.cc',
  'test/native/cc/main.cc',
  'test/native/cc/kernels_test.cc',
];

/**
 * The kernels for arm64, cross-compiled and run under qemu-user. Where the compiler or the emulator is not there and
 * cannot be had, that is said, and nothing counts as passed or failed.
 */
async function runNeonTests(prefix) {
  if (process.arch === 'arm64') return { passed: 0, failed: 0 };
  let compiler, emulator;
  try {
    compiler = await needProgram('aarch64-linux-gnu-g++', 'g++-aarch64-linux-gnu');
    emulator = await needProgram('qemu-aarch64', 'qemu-user');
  } catch (error) {
    const why = error.message.split('\n')[0];
    say(`SKIPPED: the NEON kernel is not tested, install g++-aarch64-linux-gnu and qemu-user (${why})`);
    return { passed: 0, failed: 0 };
  }
  say('building and running the NEON kernel tests (qemu-user)');
  const { kernels_neon: kernels, neon_tests: tests } = JSON.parse(readFileSync(join(root, 'native/sources.json')));
  const product = join(root, 'build', 'neon', 'kernels_test');
  mkdirSync(dirname(product), { recursive: true });
  const flags = ['-std=gnu++20', '-O2', '-static', '-Wall', '-Wextra', '-Werror', `-I${root}`];
  const doctest = join(root, 'build', 'neon', 'include');
  mkdirSync(doctest, { recursive: true });
  // A folder with doctest alone: the host's other headers are not for arm64.
  cpSync(join(prefix, 'include', 'doctest'), join(doctest, 'doctest'), { recursive: true });
  const sources = [...kernels, ...tests, ...neonSources].map((name) => join(root, name));
  await run(compiler, [...flags, '-isystem', doctest, ...sources, '-o', product]);
  const { stdout } = await run(emulator, [product], { mayFail: true });
  const summary = /test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed/.exec(stdout);
  if (summary === null) throw new Error(`the NEON tests did not end\n${stdout}`);
  if (Number(summary[3]) > 0) process.stdout.write(stdout);
  return { passed: Number(summary[2]), failed: Number(summary[3]) };
}

/** One build of the C++ tests and one run of those whose names match. Resolves with { passed, failed }. */
async function runUnder(sanitizers, folder, only) {
  const cmake = await needProgram('cmake');
  const ctest = await needProgram('ctest', 'cmake');
  const prefix = await doctestPrefix();
  const parallel = ['--parallel', String(availableParallelism())];
  const options = ['-DOSTRAKA_TESTS=ON', `-DSANITIZE=${sanitizers}`, `-DCMAKE_PREFIX_PATH=${prefix}`];
  await run(cmake, ['-S', root, '-B', folder, ...options]);
  await run(cmake, ['--build', folder, ...parallel]);
  const choice = ['--output-on-failure', '--tests-regex', only, ...parallel];
  const { stdout } = await run(ctest, ['--test-dir', folder, ...choice], { mayFail: true });
  const summary = /(\d+) tests? failed out of (\d+)/.exec(stdout);
  if (summary === null) throw new Error(`ctest ran no tests\n${stdout}`);
  const failed = Number(summary[1]);
  if (failed > 0) process.stdout.write(stdout);
  return { passed: Number(summary[2]) - failed, failed };
}

/** Builds and runs them. Resolves with { passed, failed }; what failed has been shown by then. */
export async function runNativeTests() {
  await needProgram('g++');
  await needProgram('make');
  say('building and running the C++ tests (AddressSanitizer, UndefinedBehaviorSanitizer)');
  const all = await runUnder('address,undefined', join(root, 'build', 'asan'), '.');
  say('building the C++ tests again and running those with threads (ThreadSanitizer)');
  const threads = await runUnder('thread', join(root, 'build', 'tsan'), 'threads');
  const neon = await runNeonTests(await doctestPrefix());
  return { passed: all.passed + threads.passed + neon.passed, failed: all.failed + threads.failed + neon.failed };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { passed, failed } = await runNeonTests(await doctestPrefix());
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 ? 1 : 0;
}
