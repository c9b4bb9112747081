/** Stamps: a step is skipped while the hash of everything it reads is the one written down when it last succeeded. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { root } from './run.mjs';

/** Every file below `folder` (relative to the root), sorted, without those `skip` says to leave out. */
export function filesBelow(folder, skip = () => false) {
  const found = [];
  const walk = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const full = join(path, entry.name);
      const name = relative(root, full).split(sep).join('/');
      if (skip(name)) continue;
      if (entry.isDirectory()) walk(full);
      else if (entry.isFile()) found.push(name);
    }
  };
  try {
    if (statSync(join(root, folder)).isDirectory()) walk(join(root, folder));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  return found.sort();
}

/** A hash over facts (strings) and over the names and contents of files; a missing file counts as such. */
export function hashInputs(facts, files) {
  const hash = createHash('sha256');
  for (const fact of facts) hash.update(`fact ${fact}\0`);
  for (const file of files) {
    let content;
    try {
      content = readFileSync(join(root, file));
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
    hash.update(`file ${file} ${content === undefined ? 'missing' : content.length}\0`);
    if (content !== undefined) hash.update(content);
  }
  return hash.digest('hex');
}

/** True when the stamp file holds this hash and everything in `products` exists. */
export function stampHolds(stampFile, hash, products = []) {
  try {
    for (const product of products) statSync(join(root, product));
    return readFileSync(join(root, stampFile), 'utf8') === hash;
  } catch {
    return false;
  }
}

export function writeStamp(stampFile, hash) {
  mkdirSync(dirname(join(root, stampFile)), { recursive: true });
  writeFileSync(join(root, stampFile), hash);
}

/** Taken away before a step starts, so that a step that was interrupted is done again. */
export function removeStamp(stampFile) {
  rmSync(join(root, stampFile), { force: true });
}
