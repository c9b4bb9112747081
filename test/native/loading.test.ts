/** Where the addon is looked for, tried with copies of the compiled loader in a folder of their own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const loader = fileURLToPath(new URL('../../ts/native/addon.js', import.meta.url));
const prebuilt = `prebuilds/${process.platform}-${process.arch}`;

/** The addon of this build, found as the loader finds it: upwards. */
function builtAddon(): string {
  let folder = dirname(loader);
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return join(folder, 'build', 'Release', 'ostraka.node');
}

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ostraka-loading-'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  mkdirSync(join(folder, 'dist', 'ts', 'native'), { recursive: true });
  cpSync(loader, join(folder, 'dist', 'ts', 'native', 'addon.js'));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What a process says that loads the addon from the copied loader and prints the name of its kernel. */
function load(): { status: number | null; stdout: string; stderr: string } {
  const url = pathToFileURL(join(folder, 'dist', 'ts', 'native', 'addon.js')).href;
  const script = `import(${JSON.stringify(url)}).then(({ addon }) => console.log(addon.erasureKernel(8, 4)))`;
  return spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
}

test('a missing addon is said with the places looked at and the way to build it', () => {
  const { status, stderr } = load();
  assert.notEqual(status, 0);
  assert.match(stderr, /The native addon is missing for/);
  assert.ok(stderr.includes(join(folder, 'build/Release/ostraka.node')), stderr);
  assert.ok(stderr.includes(join(folder, prebuilt)), stderr);
  assert.match(stderr, /npm run build/);
});

test('an addon that the package brought along is found', () => {
  mkdirSync(join(folder, prebuilt), { recursive: true });
  cpSync(builtAddon(), join(folder, prebuilt, 'ostraka.node'));
  const { status, stdout, stderr } = load();
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^(isal|gfni512|gfni256|avx2|ssse3|neon|portable)$/m);
});

test('an addon that was built here goes before one that was brought along', () => {
  mkdirSync(join(folder, prebuilt), { recursive: true });
  writeFileSync(join(folder, prebuilt, 'ostraka.node'), 'not an addon');
  mkdirSync(join(folder, 'build', 'Release'), { recursive: true });
  cpSync(builtAddon(), join(folder, 'build', 'Release', 'ostraka.node'));
  const { status, stderr } = load();
  assert.equal(status, 0, stderr);
});
