/**
 * npm test [-- [--long] [part-of-a-path ...]]
 *
 * Sets up, runs the C++ tests under sanitizers and the compiled test files (two at a time, each file with a time
 * limit), and ends with one line `N passed, N failed` over both. With paths, only the test files whose source path
 * holds one of them run (the C++ tests count as test/native/cc). --long sets OSTRAKA_TEST_LONG, which the big runs
 * ask for.
 */
import { join } from 'node:path';
import { run as runTests } from 'node:test';
import { spec } from 'node:test/reporters';
import { root, say } from './lib/run.mjs';
import { runNativeTests } from './lib/native-tests.mjs';
import { filesBelow } from './lib/stamp.mjs';
import { setUpOrExit } from './setup.mjs';

const minute = 60_000;
const long = process.argv.includes('--long');
const filters = process.argv.slice(2).filter((argument) => argument !== '--long');
const limits = { file: (long ? 60 : 6) * minute, all: (long ? 600 : 14) * minute };

const wanted = (path) => filters.length === 0 || filters.some((filter) => path.includes(filter.replace(/^\.\//, '')));
const overtime = new AbortController();
const total = { passed: 0, failed: 0 };

function testFiles() {
  return filesBelow('dist/test')
    .filter((name) => name.endsWith('.test.js'))
    .filter((name) => wanted(name.replace(/^dist\//, '').replace(/\.js$/, '.ts')))
    .map((name) => join(root, name));
}

/** Runs compiled test files; every test that is not a suite counts, and so does a file that crashes or hangs. */
async function runFiles(files) {
  if (files.length === 0) return;
  process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --enable-source-maps`.trim();
  if (long) process.env.OSTRAKA_TEST_LONG = '1';
  const stream = runTests({ files, concurrency: 2, timeout: limits.file, signal: overtime.signal });
  const count = (kind) => (event) => {
    if (event.details.type === 'suite' || event.skip !== undefined || event.todo !== undefined) return;
    total[kind] += 1;
  };
  stream.on('test:pass', count('passed'));
  stream.on('test:fail', count('failed'));
  for await (const text of stream.compose(new spec())) process.stdout.write(text);
}

/** The last line; the process ends once it is out. */
function finish() {
  const code = total.failed === 0 ? 0 : 1;
  process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`, () => process.exit(code));
}

const watchdog = setTimeout(() => {
  say(`the tests took longer than ${limits.all / minute} minutes`);
  total.failed += 1;
  overtime.abort();
  setTimeout(finish, 5000);
}, limits.all);

await setUpOrExit();
if (wanted('test/native/cc')) {
  try {
    const { passed, failed } = await runNativeTests();
    total.passed += passed;
    total.failed += failed;
  } catch (error) {
    say(error.message);
    total.failed += 1;
  }
}
await runFiles(testFiles());
clearTimeout(watchdog);
if (total.passed + total.failed === 0) {
  say('no test matches');
  total.failed += 1;
}
finish();
