/**
 * Builds build/Release/ostraka.node with node-gyp, without the network: Node's headers are those beside the running
 * node binary, else those of the node-api-headers package under a minimal common.gypi.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needProgram } from './lib/apt.mjs';
import { root, run, say } from './lib/run.mjs';
import { filesBelow, hashInputs, removeStamp, stampHolds, writeStamp } from './lib/stamp.mjs';
import { vendorHash } from './vendor.mjs';

const stampFile = 'build/native.stamp';
const product = 'build/Release/ostraka.node';
const require = createRequire(import.meta.url);

function nativeHash() {
  const installed = JSON.parse(readFileSync(require.resolve('node-addon-api/package.json'), 'utf8')).version;
  const files = filesBelow('native', (name) => name.startsWith('native/vendor'));
  const facts = [process.version, process.arch, installed, vendorHash(), root];
  return hashInputs(facts, ['binding.gyp', 'scripts/native.mjs', 'scripts/sources.mjs', ...files]);
}

/** What node-gyp needs to find under the headers: the build settings that Node's own file would give. */
const minimalSettings = `{
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': {
      'Release': { 'cflags': ['-O3'], 'defines': ['NDEBUG'] },
      'Debug': { 'cflags': ['-g', '-O0'] },
    },
    'cflags': ['-fPIC', '-pthread'],
    'cflags_cc': ['-fno-rtti', '-fno-exceptions', '-std=gnu++17'],
    'ldflags': ['-pthread'],
  },
}
`;

/** A folder with include/node/ as node-gyp's --nodedir wants it. */
export function headersFolder() {
  const beside = dirname(dirname(process.execPath));
  if (existsSync(join(beside, 'include', 'node', 'node_api.h'))) return beside;
  const made = join(root, 'build', 'headers');
  const include = join(made, 'include', 'node');
  mkdirSync(include, { recursive: true });
  cpSync(require('node-api-headers').include_dir, include, { recursive: true });
  writeFileSync(join(include, 'common.gypi'), minimalSettings);
  return made;
}

export async function nativeStep() {
  const hash = nativeHash();
  if (stampHolds(stampFile, hash, [product])) return;
  removeStamp(stampFile);
  for (const program of ['g++', 'make', 'python3']) await needProgram(program);
  say('building the addon');
  const gyp = join(dirname(require.resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
  const options = [`--nodedir=${headersFolder()}`, `--jobs=${availableParallelism()}`];
  await run(process.execPath, [gyp, 'configure', ...options]);
  await run(process.execPath, [gyp, 'build', ...options]);
  writeStamp(stampFile, hash);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await nativeStep();
