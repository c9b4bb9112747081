/**
 * npm start [-- flags]: sets up, then serves. Flags go to `ostraka serve`; its exit code is this one's. Signals are
 * passed on, but for SIGINT from a terminal, which reaches the server by itself.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { root } from './lib/run.mjs';
import { setUpOrExit } from './setup.mjs';

await setUpOrExit();
const main = join(root, 'dist', 'ts', 'cli', 'main.js');
const server = spawn(process.execPath, [main, 'serve', ...process.argv.slice(2)], { stdio: 'inherit' });
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']) {
  const fromTerminal = process.stdin.isTTY === true && (signal === 'SIGINT' || signal === 'SIGQUIT');
  process.on(signal, () => {
    if (!fromTerminal) server.kill(signal);
  });
}
server.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
server.on('exit', (code, signal) => process.exit(signal === null ? code : 128 + constants.signals[signal]));
