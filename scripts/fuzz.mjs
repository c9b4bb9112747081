/**
 * npm run test:fuzz [-- options]: sets up, then fuzzes the parsers in TypeScript (test/fuzz/main.ts, which names the
 * options) and the C++ core (`--target core`; scripts/lib/native-fuzz.mjs). `--seconds` (default 60, or
 * OSTRAKA_FUZZ_SECONDS) is for all together, of which the C++ core takes a quarter.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fuzzNative } from './lib/native-fuzz.mjs';
import { root } from './lib/run.mjs';
import { setUpOrExit } from './setup.mjs';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: process.env.OSTRAKA_FUZZ_SECONDS ?? '60' }, target: { type: 'string' },
    seed: { type: 'string' }, replay: { type: 'string' }, minimise: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.seconds);
if (!(seconds > 0)) throw new Error('--seconds: expected a number greater than 0');

await setUpOrExit();
const { target } = values;
let failed = false;
if (target !== 'core') {
  const main = join(root, 'dist', 'test', 'fuzz', 'main.js');
  const share = String(target === undefined ? (seconds * 3) / 4 : seconds);
  const { status, error } = spawnSync(process.execPath, [main, ...process.argv.slice(2), '--seconds', share],
    { stdio: 'inherit' });
  if (error !== undefined) throw error;
  failed = status !== 0;
}
if (target === undefined || target === 'core') {
  const share = target === undefined ? seconds / 4 : seconds;
  failed = !(await fuzzNative({ ...values, seconds: share })) || failed;
}
process.exit(failed ? 1 : 0);
