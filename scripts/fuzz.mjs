/** npm run test:fuzz [-- arguments]: sets up, then fuzzes the parsers with these arguments (see test/fuzz/main.ts). */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './lib/run.mjs';
import { setUpOrExit } from './setup.mjs';

await setUpOrExit();
const main = join(root, 'dist', 'test', 'fuzz', 'main.js');
const { status, error } = spawnSync(process.execPath, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
if (error !== undefined) throw error;
process.exit(status ?? 1);
