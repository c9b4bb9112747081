/**
 * Everything that has to be made before the store can run (npm run build): dependencies, third-party C sources, the
 * addon, the compiled TypeScript. A step is skipped while its inputs are those of its last success. Several at once
 * are safe.
 */
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from './lib/lock.mjs';
import { findProgram, root, run, say } from './lib/run.mjs';
import { filesBelow, hashInputs, removeStamp, stampHolds, writeStamp } from './lib/stamp.mjs';

const typescriptStamp = 'dist/typescript.stamp';

function readLockfile(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).packages : undefined;
}

/** True when node_modules does not hold what package-lock.json asks for (npm keeps a list of what it installed). */
function dependenciesDiffer() {
  const wanted = readLockfile(join(root, 'package-lock.json'));
  const installed = readLockfile(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return true;
  return Object.entries(wanted).some(([path, entry]) => {
    if (path === '') return false;
    const have = installed[path];
    if (have === undefined) return entry.optional !== true && entry.peer !== true && entry.devOptional !== true;
    return have.version !== entry.version;
  });
}

async function dependenciesStep() {
  if (!dependenciesDiffer()) return;
  const folder = join(root, 'node_modules');
  if (existsSync(folder) && lstatSync(folder).isSymbolicLink()) {
    say('node_modules is a link and differs from package-lock.json: left as it is');
    return;
  }
  say('installing dependencies (npm ci)');
  // No dependency needs its install script: the binaries that are used come as optional packages.
  const npm = findProgram('npm', [dirname(process.execPath)]);
  if (npm === undefined) throw new Error('npm is not on the PATH');
  await run(npm, ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
}

/** Removes compiled files whose source is gone, so that a deleted test does not go on running. */
function removeOrphans() {
  const pattern = /\.(js|d\.ts|js\.map)$/;
  for (const file of filesBelow('dist').filter((name) => pattern.test(name))) {
    const source = file.replace(/^dist\//, '').replace(pattern, '.ts');
    if (!existsSync(join(root, source))) rmSync(join(root, file));
  }
}

async function typescriptStep() {
  const projects = readdirSync(root).filter((name) => /^tsconfig.*\.json$/.test(name));
  const sources = ['ts', 'test', 'bench'].flatMap((folder) => filesBelow(folder));
  const facts = [process.version];
  const inputs = [...projects, ...sources.filter((name) => /\.(ts|json)$/.test(name)), 'package-lock.json'];
  const hash = hashInputs(facts, inputs);
  if (stampHolds(typescriptStamp, hash)) return;
  removeStamp(typescriptStamp);
  say('compiling TypeScript');
  removeOrphans();
  const require = createRequire(import.meta.url);
  const compiler = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
  await run(process.execPath, [compiler, '--build', ...missingBuildInfo()]);
  writeStamp(typescriptStamp, hash);
}

/** tsc trusts its own notes over what is there: when compiled files are missing, it has to be told to start over. */
function missingBuildInfo() {
  const lost = ['ts', 'test', 'bench'].some((folder) =>
    filesBelow(folder).some((name) => {
      if (!name.endsWith('.ts') || name.endsWith('.d.ts')) return false;
      const compiled = join(root, 'dist', name.replace(/\.ts$/, '.js'));
      return !existsSync(compiled) && statSync(join(root, name)).isFile();
    }),
  );
  return lost ? ['--force'] : [];
}

/** All steps in order. The later ones are loaded late, since they use the dependencies. */
export async function setUp() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 20))
    throw new Error(`Node 20.20 or later is needed, this is ${process.version}`);
  await withLock(join(root, '.cache', 'setup.lock'), async () => {
    await dependenciesStep();
    const { vendorStep } = await import('./vendor.mjs');
    const { nativeStep } = await import('./native.mjs');
    await vendorStep();
    await nativeStep();
    await typescriptStep();
  });
}

/** Runs set-up; what goes wrong is said without a stack and ends the process. */
export async function setUpOrExit() {
  try {
    await setUp();
  } catch (error) {
    say(error.message);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await setUpOrExit();
