/**
 * npm run package [-- --own] [--as-built]
 *
 * Makes build/ostraka-<version>.tgz, the package for npm: the compiled JavaScript, the addon's binaries for this
 * processor and (unless --own) the other one, README, licences. It has no install script and needs no compiler. The
 * last line on stdout is the path. --as-built: the set-up has been made, and is not looked at again.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withLock } from './lib/lock.mjs';
import { findProgram, root, run, say } from './lib/run.mjs';
import { filesBelow } from './lib/stamp.mjs';
import { crossPrebuild, hostPrebuild, oldestGlibc } from './prebuild.mjs';
import { setUpOrExit } from './setup.mjs';
import { licenceOf, pins } from './vendor.mjs';

const stage = join(root, 'build', 'package');

/** What the published package.json says: no scripts, no development dependencies. */
function publishedManifest() {
  const { name, version, description, license, type, engines, bin, dependencies } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  return { name, version, description, license, type, engines, bin, dependencies };
}

/** The compiled files of ts/ without their maps, whose sources stay behind. */
function stageJavaScript() {
  for (const name of filesBelow('dist/ts').filter((file) => file.endsWith('.js'))) {
    const code = readFileSync(join(root, name), 'utf8').replace(/\n\/\/# sourceMappingURL=.*\n?$/, '\n');
    mkdirSync(dirname(join(stage, name)), { recursive: true });
    writeFileSync(join(stage, name), code);
  }
  chmodSync(join(stage, 'dist', 'ts', 'cli', 'main.js'), 0o755);
}

/** The licences of what is compiled into the binaries; npm packages bring their own. */
function thirdPartyLicences() {
  const api = dirname(createRequire(import.meta.url).resolve('node-addon-api/package.json'));
  const { version } = JSON.parse(readFileSync(join(api, 'package.json'), 'utf8'));
  const parts = [
    ...pins.libraries.map((library) => ({ ...library, text: licenceOf(library) })),
    {
      ...{ name: 'node-addon-api', version, licence: 'MIT', use: 'the glue between Node and C++' },
      text: readFileSync(join(api, 'LICENSE.md'), 'utf8'),
    },
  ];
  const sections = parts.map(
    ({ name, version: pinned, licence, use, text }) =>
      `## ${name} ${pinned}\n\n${use}. ${licence}:\n\n\`\`\`\n${text.trim()}\n\`\`\`\n`,
  );
  const intro =
    '# Licences of third parties\n\nCompiled into the files below prebuilds/. They also hold parts of the GNU C++ library\n' +
    '(libstdc++), under the GPL version 3 with the GCC Runtime Library Exception.\n';
  return [intro, ...sections].join('\n');
}

function stagePrebuilds(prebuilds) {
  for (const { path } of prebuilds) {
    const target = join(stage, path.replace(/^build\//, ''));
    mkdirSync(dirname(target), { recursive: true });
    cpSync(join(root, path), target);
  }
}

/** Loads this machine's binary from where the package has it, in a process of its own. */
function tryLoader() {
  const loader = pathToFileURL(join(stage, 'dist', 'ts', 'native', 'addon.js')).href;
  execFileSync(process.execPath, ['--input-type=module', '-e', `await import(${JSON.stringify(loader)})`]);
}

/** Makes the tarball; resolves with its path. */
async function makePackage() {
  rmSync(stage, { recursive: true, force: true });
  rmSync(join(root, 'build', 'prebuilds'), { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });
  const own = await hostPrebuild();
  const other = process.argv.includes('--own') ? undefined : await crossPrebuild();
  const prebuilds = [own, ...(other === undefined ? [] : [other])];
  stageJavaScript();
  stagePrebuilds(prebuilds);
  for (const name of ['README.md', 'LICENSE']) cpSync(join(root, name), join(stage, name));
  writeFileSync(join(stage, 'THIRD_PARTY_LICENCES.md'), thirdPartyLicences());
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(publishedManifest(), null, 2)}\n`);
  tryLoader();
  const npm = findProgram('npm', [dirname(process.execPath)]);
  if (npm === undefined) throw new Error('npm is not on the PATH');
  const options = ['--ignore-scripts', '--json', '--pack-destination', join(root, 'build')];
  const { stdout } = await run(npm, ['pack', ...options], { cwd: stage });
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf('[')));
  for (const { arch, libc, glibc, path } of prebuilds) {
    const size = Math.round(statSync(join(root, path)).size / 1024);
    const asks = libc === 'glibc' ? `, asks for glibc ${glibc} (at most ${oldestGlibc} allowed)` : '';
    say(`linux-${arch}, ${libc}: ${size} KiB${asks}`);
  }
  say(`${packed.entryCount} files, ${Math.round(packed.size / 1024)} KiB packed`);
  return join(root, 'build', packed.filename);
}

if (!process.argv.includes('--as-built')) await setUpOrExit();
try {
  const tarball = await withLock(join(root, '.cache', 'package.lock'), makePackage);
  process.stdout.write(`${tarball}\n`);
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
