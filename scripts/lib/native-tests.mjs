/** The C++ unit tests: built with cmake under AddressSanitizer and UndefinedBehaviorSanitizer, run by ctest. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
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

/** Builds and runs them. Resolves with { passed, failed }; what failed has been shown by then. */
export async function runNativeTests() {
  const cmake = await needProgram('cmake');
  const ctest = await needProgram('ctest', 'cmake');
  await needProgram('g++');
  await needProgram('make');
  const folder = join(root, 'build', 'asan');
  const prefix = await doctestPrefix();
  say('building and running the C++ tests (AddressSanitizer, UndefinedBehaviorSanitizer)');
  const options = ['-DOSTRAKA_TESTS=ON', '-DSANITIZE=address,undefined', `-DCMAKE_PREFIX_PATH=${prefix}`];
  await run(cmake, ['-S', root, '-B', folder, ...options]);
  await run(cmake, ['--build', folder, '--parallel', String(availableParallelism())]);
  const jobs = ['--parallel', String(availableParallelism())];
  const { stdout } = await run(ctest, ['--test-dir', folder, '--output-on-failure', ...jobs], { mayFail: true });
  const summary = /(\d+) tests? failed out of (\d+)/.exec(stdout);
  if (summary === null) throw new Error(`ctest ran no tests\n${stdout}`);
  const failed = Number(summary[1]);
  if (failed > 0) process.stdout.write(stdout);
  return { passed: Number(summary[2]) - failed, failed };
}
