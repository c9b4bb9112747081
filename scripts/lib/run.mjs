/** Helpers shared by the scripts: running programs, talking to the person who waits, paths. Node builtins only. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of package.json. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** One line about a long step, on stderr so that stdout stays for results. */
export function say(text) {
  process.stderr.write(`[ostraka] ${text}\n`);
}

/** True when this process may install packages for the whole machine. */
export function isRoot() {
  return process.getuid?.() === 0;
}

/**
 * Runs a program to its end. Resolves with { code, stdout }; rejects when it cannot start, or (unless `mayFail`) when
 * it does not exit with 0: the error then carries the end of what the program said.
 * `output`: 'quiet' keeps the output for the error message, 'show' passes it through to stderr.
 */
export function run(command, args, { cwd = root, env = process.env, mayFail = false, output = 'quiet' } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let tail = '';
    const keep = (chunk) => {
      tail = (tail + chunk).slice(-8000);
      if (output === 'show') process.stderr.write(chunk);
    };
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      stdout += chunk;
      keep(chunk);
    });
    child.stderr.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => reject(new Error(`cannot run ${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0 || (mayFail && code !== null)) resolve({ code, stdout });
      else reject(new Error(`${command} ${args.join(' ')} ended with ${signal ?? code}\n${tail}`));
    });
  });
}

/** The path of a program on PATH (and in `extra` folders first), or undefined. */
export function findProgram(name, extra = []) {
  for (const folder of [...extra, ...(process.env.PATH ?? '').split(delimiter)]) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // not here: look in the next folder
    }
  }
  return undefined;
}

/** Runs `work` over `items`, at most `limit` at once; stops starting new ones at the first failure. */
export async function inParallel(items, limit, work) {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      try {
        await work(item);
      } catch (error) {
        queue.length = 0;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
}
