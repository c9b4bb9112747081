/**
 * npm run transcripts -- [FOLDER or FILE ...]: runs transcripts and reports the first difference in each
 * file.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { resolve } from 'node:path';
import { findTranscripts, runTranscript } from './run.js';

const root = fileURLToPath(new URL('../../../../../', import.meta.url));
const given = process.argv.slice(2);
const paths =
  given.length > 0 ? given.map((path) => resolve(path)) : [resolve(root, '../shared/raft-testdata')];

let passed = 0;
let failed = 0;
for (const path of paths) {
  if (!existsSync(path)) {
    console.error(`no such file or folder: ${path}`);
    failed++;
    continue;
  }
  for (const file of findTranscripts(path)) {
    const result = runTranscript(file);
    if (result.failure === undefined) {
      passed++;
      continue;
    }
    failed++;
    console.log(`FAILED ${result.failure}\n`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
if (failed > 0 || passed === 0) process.exitCode = 1;
