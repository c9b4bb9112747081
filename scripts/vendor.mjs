/**
 * Third-party C sources, obtained and built here rather than committed.
 *
 *   node scripts/vendor.mjs            obtains, verifies and builds what native/vendor/vendor.json pins
 *
 * Each archive comes from the first place that has it: the cache (OSTRAKA_VENDOR_CACHE, else ~/.cache/ostraka/vendor),
 * Debian's source package through apt with this machine's own mirror, the upstream release. Wherever it came from, its
 * sha256 must be the pinned one. Results: native/vendor/src/ (sources), native/vendor/out/include and
 * native/vendor/out/lib (static, position-independent libraries); for another processor the same two folders in
 * native/vendor/out/linux-<arch>/ (see vendorFor).
 */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, homedir, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { downloadSourceArchive, needProgram } from './lib/apt.mjs';
import { inParallel, root, run, say } from './lib/run.mjs';
import { hashInputs, removeStamp, stampHolds, writeStamp } from './lib/stamp.mjs';

const vendor = join(root, 'native', 'vendor');
const sources = join(vendor, 'src');
const hostTarget = { arch: process.arch, folder: 'native/vendor/out', tool: (name) => name };
const libraries = ['libisal.a', 'libzstd.a', 'libxxhash.a'];

export const pins = JSON.parse(readFileSync(join(vendor, 'vendor.json'), 'utf8'));

/** Changes whenever the libraries have to be built again. */
export function vendorHash(arch = process.arch) {
  return hashInputs([arch, process.platform], ['native/vendor/vendor.json', 'scripts/vendor.mjs']);
}

function cacheFolder() {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return process.env.OSTRAKA_VENDOR_CACHE ?? join(base, 'ostraka', 'vendor');
}

function holdsPinnedBytes(path, archive) {
  if (!existsSync(path)) return false;
  return createHash('sha256').update(readFileSync(path)).digest('hex') === archive.sha256;
}

async function download(archive, work) {
  const target = join(work, archive.file);
  if (archive.from === 'debian') {
    await downloadSourceArchive(archive.package, pins.debianSuite, work, join(work, 'apt'));
  } else {
    const response = await fetch(archive.url, { signal: AbortSignal.timeout(120_000) });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    writeFileSync(target, Buffer.from(await response.arrayBuffer()));
  }
  return target;
}

/** The path of a verified archive of this library in the cache. */
async function obtain(library, work) {
  const cache = cacheFolder();
  mkdirSync(cache, { recursive: true });
  const failures = [];
  for (const archive of library.archives) {
    if (holdsPinnedBytes(join(cache, archive.file), archive)) return join(cache, archive.file);
  }
  for (const archive of library.archives) {
    say(`downloading ${library.name} ${library.version} (${archive.from})`);
    try {
      const path = await download(archive, work);
      if (!holdsPinnedBytes(path, archive)) throw new Error('the sha256 is not the pinned one');
      const staged = join(cache, `${archive.file}.${process.pid}`);
      copyFileSync(path, staged);
      renameSync(staged, join(cache, archive.file));
      return join(cache, archive.file);
    } catch (error) {
      failures.push(`  ${archive.from}: ${error.message}`);
    }
  }
  const names = library.archives.map((archive) => archive.file).join(' or ');
  throw new Error(
    `cannot obtain ${library.name} ${library.version}; put ${names} into ${cache}\n${failures.join('\n')}`,
  );
}

async function unpack(library, archivePath) {
  const folder = join(sources, library.folder);
  rmSync(folder, { recursive: true, force: true });
  await run('tar', ['-xf', archivePath, '-C', sources]);
  if (!existsSync(folder)) throw new Error(`${basename(archivePath)} does not hold a folder ${library.folder}`);
  return folder;
}

/** Compiles units ({ file, command }) into one static library. */
async function archiveUnits(target, name, units) {
  const products = join(root, target.folder);
  const objects = join(products, 'obj', name);
  rmSync(objects, { recursive: true, force: true });
  mkdirSync(objects, { recursive: true });
  const built = [];
  await inParallel(units, Math.min(4, availableParallelism()), async ({ file, command }) => {
    const object = join(objects, `${basename(file).replaceAll('.', '_')}.o`);
    built.push(object);
    await run(command[0], [...command.slice(1), '-o', object, file]);
  });
  const library = join(products, 'lib', name);
  rmSync(library, { force: true });
  await run(target.tool('ar'), ['rcs', library, ...built.sort()]);
}

const compile = (target) => [target.tool('gcc'), '-c', '-O3', '-fPIC', '-fvisibility=hidden', '-ffunction-sections'];

/** ISA-L's erasure_code unit: assembler kernels with their own cpuid dispatch on x86-64, its C code elsewhere. */
async function buildIsal(folder, target) {
  const include = join(folder, 'include');
  const code = join(folder, 'erasure_code');
  const level = ['-DAS_FEATURE_LEVEL=10', '-DHAVE_AS_KNOWS_AVX512'];
  const cc = [...compile(target), ...level, '-I', include, '-I', code];
  const units = [];
  if (target.arch === 'x64') {
    const nasm = await needProgram('nasm');
    const assemble = [nasm, '-f', 'elf64', ...level, '-I', `${include}/`, '-I', `${code}/`];
    const kernels = readdirSync(code).filter((name) => name.endsWith('.asm'));
    units.push(...kernels.map((name) => ({ file: join(code, name), command: assemble })));
    units.push(...['ec_base.c', 'ec_highlevel_func.c'].map((name) => ({ file: join(code, name), command: cc })));
  } else {
    units.push(...['ec_base.c', 'ec_base_aliases.c'].map((name) => ({ file: join(code, name), command: cc })));
  }
  await archiveUnits(target, 'libisal.a', units);
  copyHeaders(target, include, ['erasure_code.h', 'gf_vect_mul.h']);
}

async function buildZstd(folder, target) {
  const library = join(folder, 'lib');
  const cc = [...compile(target), '-DZSTD_LEGACY_SUPPORT=0', '-DXXH_NAMESPACE=ZSTD_', '-I', library];
  const units = ['common', 'compress', 'decompress'].flatMap((part) =>
    readdirSync(join(library, part))
      .filter((name) => /\.[cS]$/.test(name))
      .map((name) => ({ file: join(library, part, name), command: cc })),
  );
  await archiveUnits(target, 'libzstd.a', units);
  copyHeaders(target, library, ['zstd.h', 'zstd_errors.h']);
}

async function buildXxhash(folder, target) {
  const names = target.arch === 'x64' ? ['xxhash.c', 'xxh_x86dispatch.c'] : ['xxhash.c'];
  const cc = [...compile(target), '-I', folder];
  await archiveUnits(
    target,
    'libxxhash.a',
    names.map((name) => ({ file: join(folder, name), command: cc })),
  );
  copyHeaders(target, folder, ['xxhash.h', 'xxh_x86dispatch.h']);
}

function copyHeaders(target, folder, names) {
  for (const name of names) copyFileSync(join(folder, name), join(root, target.folder, 'include', name));
}

const builders = { 'isa-l': buildIsal, zstd: buildZstd, xxhash: buildXxhash };

/**
 * Makes the libraries of one target when they are not there or not the pinned ones. A target is { arch, folder
 * (relative to the root, for include/ and lib/), tool(name) (the command of gcc and ar) }.
 */
async function makeLibraries(target) {
  const stampFile = `${target.folder}/stamp`;
  const hash = vendorHash(target.arch);
  if (stampHolds(stampFile, hash, libraries.map((name) => `${target.folder}/lib/${name}`))) return;
  removeStamp(stampFile);
  for (const folder of ['include', 'lib']) mkdirSync(join(root, target.folder, folder), { recursive: true });
  mkdirSync(sources, { recursive: true });
  await needProgram('gcc');
  const work = mkdtempSync(join(tmpdir(), 'ostraka-vendor-'));
  try {
    for (const library of pins.libraries) {
      const folder = await unpack(library, await obtain(library, work));
      say(`building ${library.name} ${library.version}${target.arch === process.arch ? '' : ` for ${target.arch}`}`);
      await builders[library.name](folder, target);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  rmSync(join(root, target.folder, 'obj'), { recursive: true, force: true });
  writeStamp(stampFile, hash);
}

/** The libraries for this machine. */
export async function vendorStep() {
  await makeLibraries(hostTarget);
}

/** The libraries for another processor, by a cross compiler (`prefix` as in aarch64-linux-gnu-). Their folder. */
export async function vendorFor(arch, prefix) {
  const folder = `native/vendor/out/linux-${arch}`;
  await makeLibraries({ arch, folder, tool: (name) => `${prefix}${name}` });
  return folder;
}

/** The text of a library's licence; its sources must have been unpacked. */
export function licenceOf(library) {
  return readFileSync(join(sources, library.folder, 'LICENSE'), 'utf8');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await vendorStep();
