/**
 * The addon's binaries that the package brings along, in prebuildify's layout:
 * build/prebuilds/linux-<arch>/ostraka.<libc>.node, stripped.
 *
 * This machine's own is the one that binding.gyp built; the other processor's is built through CMakeLists.txt by
 * Debian's cross compiler. Each is checked: for the right processor, exporting nothing but the addon's two entry
 * points, and asking for no glibc newer than the oldest that we promise (native/addon/old_glibc.cc).
 */
import { closeSync, cpSync, mkdirSync, openSync, readSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { needProgram } from './lib/apt.mjs';
import { findProgram, root, run, say } from './lib/run.mjs';
import { filesBelow, hashInputs, removeStamp, stampHolds, writeStamp } from './lib/stamp.mjs';
import { headersFolder } from './native.mjs';
import { vendorFor, vendorHash } from './vendor.mjs';

/** The oldest glibc that Node 20's own binaries run on. (The package as a whole needs 2.34, for lmdb's binary.) */
export const oldestGlibc = '2.28';

const processors = {
  x64: { cmake: 'x86_64', machine: 62, prefix: 'x86_64-linux-gnu-', compiler: 'g++-x86-64-linux-gnu' },
  arm64: { cmake: 'aarch64', machine: 183, prefix: 'aarch64-linux-gnu-', compiler: 'g++-aarch64-linux-gnu' },
};

/** 'glibc' or 'musl', of the Node that runs this. */
export function ownLibc() {
  process.report.excludeNetwork = true;
  return process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
}

function newerThan(version, other) {
  const [a, b] = [version, other].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) > (b[i] ?? 0);
  }
  return false;
}

/** The ELF header's machine number of a file. */
function elfMachine(path) {
  const header = Buffer.alloc(20);
  const fd = openSync(path, 'r');
  readSync(fd, header, 0, header.length, 0);
  closeSync(fd);
  return header.readUInt32BE(0) === 0x7f454c46 ? header.readUInt16LE(18) : undefined;
}

/**
 * Checks one binary and returns the newest glibc it asks for, as in '2.26'; an error names what does not hold.
 * readelf reads every processor's files.
 */
export async function checkBinary(path, arch, libc) {
  const problem = (what) => new Error(`${path}: ${what}`);
  if (elfMachine(path) !== processors[arch].machine) throw problem(`not an ELF file for ${arch}`);
  const readelf = await needProgram('readelf', 'binutils');
  const { stdout } = await run(readelf, ['--dyn-syms', '--wide', path], { env: { ...process.env, LC_ALL: 'C' } });
  const symbols = stdout.split('\n').flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const [number = '', , , , bind, , section, name] = fields;
    return /^\d+:$/.test(number) && name !== undefined && bind !== 'LOCAL' ? [{ section, name }] : [];
  });
  const exported = symbols.filter(({ section }) => section !== 'UND').map(({ name }) => name.replace(/@.*/, ''));
  const entries = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];
  if (exported.sort().join() !== entries.join()) throw problem(`it exports ${exported.join(', ')}`);
  let newest = '0';
  for (const { section, name } of symbols) {
    const [, library, version] = /@+(GLIBC|GLIBCXX|CXXABI)_([\d.]+)$/.exec(name) ?? [];
    if (section !== 'UND' || library === undefined) continue;
    if (library !== 'GLIBC') throw problem(`it needs a shared libstdc++ (${name})`);
    if (newerThan(version, newest)) newest = version;
    if (libc === 'glibc' && newerThan(version, oldestGlibc)) throw problem(`${name} is newer than ${oldestGlibc}`);
  }
  return newest;
}

/** Copies a binary to its place, without what only a debugger wants, and checks it. */
async function place(binary, arch, libc, prefix) {
  const target = `build/prebuilds/linux-${arch}/ostraka.${libc}.node`;
  mkdirSync(dirname(join(root, target)), { recursive: true });
  cpSync(binary, join(root, target));
  const strip = await needProgram(`${prefix}strip`, 'binutils');
  await run(strip, ['--strip-unneeded', join(root, target)]);
  const glibc = await checkBinary(join(root, target), arch, libc);
  return { path: target, arch, libc, glibc };
}

/** This machine's binary; the set-up must have been made. */
export async function hostPrebuild() {
  if (process.platform !== 'linux' || processors[process.arch] === undefined) {
    throw new Error(`no binary can be made for ${process.platform}-${process.arch}`);
  }
  return place(join(root, 'build', 'Release', 'ostraka.node'), process.arch, ownLibc(), '');
}

/**
 * The other processor's binary (for glibc), or undefined, said on stderr, where there is no cross compiler and none
 * can be had.
 */
export async function crossPrebuild() {
  const arch = process.arch === 'x64' ? 'arm64' : 'x64';
  const { prefix, compiler, cmake: systemProcessor } = processors[arch];
  let cmake;
  try {
    await needProgram(`${prefix}g++`, compiler);
    if (findProgram(`${prefix}ar`) === undefined) throw new Error(`${prefix}ar is missing`);
    cmake = await needProgram('cmake');
  } catch (error) {
    say(`LEFT OUT: no binary for linux-${arch} (${error.message.split('\n')[0]})`);
    return undefined;
  }
  const folder = `build/cross-${arch}`;
  const product = `${folder}/ostraka.node`;
  const stampFile = `${folder}/stamp`;
  const files = filesBelow('native', (name) => name.startsWith('native/vendor'));
  const inputs = ['CMakeLists.txt', 'scripts/prebuild.mjs', 'scripts/native.mjs', 'package-lock.json', ...files];
  const hash = hashInputs([process.version, vendorHash(arch), root], inputs);
  if (!stampHolds(stampFile, hash, [product])) {
    removeStamp(stampFile);
    const vendor = await vendorFor(arch, prefix);
    say(`building the addon for linux-${arch}`);
    await run(cmake, [
      ...['-S', root, '-B', join(root, folder), '-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_SYSTEM_NAME=Linux'],
      ...[`-DCMAKE_SYSTEM_PROCESSOR=${systemProcessor}`, `-DCMAKE_CXX_COMPILER=${prefix}g++`],
      ...[`-DVENDOR=${join(root, vendor)}`, `-DCMAKE_JS_INC=${join(headersFolder(), 'include', 'node')}`],
    ]);
    await run(cmake, ['--build', join(root, folder), '--parallel', String(availableParallelism())]);
    writeStamp(stampFile, hash);
  }
  return place(join(root, product), arch, 'glibc', prefix);
}
