/** Prints one list of native/sources.json (or `headers`, the folder of node-addon-api), for binding.gyp. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from './lib/run.mjs';

const list = process.argv[2];
if (list === 'headers') {
  process.stdout.write(dirname(createRequire(import.meta.url).resolve('node-addon-api/package.json')));
} else {
  const lists = JSON.parse(readFileSync(join(root, 'native', 'sources.json'), 'utf8'));
  if (lists[list] === undefined) throw new Error(`native/sources.json has no list ${list}`);
  process.stdout.write(lists[list].join('\n'));
}
