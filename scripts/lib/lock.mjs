/** One set-up at a time in a clone: a lock file that names its owner, taken over when the owner is gone. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { say } from './run.mjs';

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function tryTake(path) {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  }
}

/** The process that holds the lock, or undefined when it has just been released; 0 when nothing can be read in it. */
function ownerOf(path) {
  try {
    return Number(readFileSync(path, 'utf8')) || 0;
  } catch {
    return undefined;
  }
}

/** Moves a lock whose owner died out of the way; put back when another process took the lock meanwhile. */
function clearDead(path, owner) {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (ownerOf(aside) !== owner) renameSync(aside, path);
  else rmSync(aside, { force: true });
}

/** Runs `work` while holding the lock at `path`. */
export async function withLock(path, work) {
  mkdirSync(dirname(path), { recursive: true });
  let waited = 0;
  while (!tryTake(path)) {
    const owner = ownerOf(path);
    // An empty file is one being written; it is dead only when it stays empty.
    const dead = owner !== undefined && (owner === 0 ? waited > 20 : !isAlive(owner));
    if (dead) clearDead(path, owner);
    if (waited === 0 && !dead) say(`waiting for the set-up that process ${owner ?? '?'} is doing`);
    waited += 1;
    await sleep(250);
  }
  const release = () => rmSync(path, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}
