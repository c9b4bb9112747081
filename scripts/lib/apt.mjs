/**
 * What the scripts need from Debian: programs that are missing (installed, or without root unpacked below .cache/tools)
 * and source archives of another suite. Mirrors are those the machine itself is set up with; its configuration is
 * never touched.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram, isRoot, root, run, say } from './run.mjs';

const toolsFolder = join(root, '.cache', 'tools');
const toolsPath = [join(toolsFolder, 'usr', 'bin')];
const quietEnv = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

let listsFresh = false;

async function aptGet(args) {
  await run('apt-get', ['-q', '-y', ...args], { env: quietEnv });
}

/** Runs an apt command that needs package lists, refreshing them once when it fails without. */
async function withLists(work) {
  try {
    await work();
  } catch (error) {
    if (listsFresh || !isRoot()) throw error;
    listsFresh = true;
    await aptGet(['update']);
    await work();
  }
}

async function unpackWithoutRoot(packageName) {
  const downloads = join(toolsFolder, 'downloads', packageName);
  rmSync(downloads, { recursive: true, force: true });
  mkdirSync(downloads, { recursive: true });
  const { codename, site } = await ownMirror();
  const env = await privateApt(join(toolsFolder, 'apt'), `deb [signed-by=${keyring}] ${site} ${codename} main\n`);
  await run('apt-get', ['-q', 'download', packageName], { cwd: downloads, env });
  for (const file of readdirSync(downloads)) {
    await run('dpkg-deb', ['-x', join(downloads, file), toolsFolder]);
  }
}

/** Installs a Debian package, or without root unpacks it below .cache/tools. */
export async function addPackage(packageName) {
  if (findProgram('apt-get') === undefined) throw new Error(`no apt-get here: install ${packageName} by hand`);
  say(`installing ${packageName}`);
  if (isRoot()) await withLists(() => aptGet(['install', '--no-install-recommends', packageName]));
  else await unpackWithoutRoot(packageName);
}

/** The path of a program, after adding the package that holds it when it is missing. */
export async function needProgram(name, packageName = name) {
  const before = findProgram(name, toolsPath);
  if (before !== undefined) return before;
  await addPackage(packageName);
  const after = findProgram(name, toolsPath);
  if (after === undefined) throw new Error(`the program ${name} is missing: install the package ${packageName}`);
  return after;
}

/** The path of a program; when it is missing its package is unpacked below .cache/tools, and never installed. */
export async function unpackProgram(name, packageName = name) {
  const before = findProgram(name, toolsPath);
  if (before !== undefined) return before;
  for (const needed of ['apt-get', 'dpkg-deb']) {
    if (findProgram(needed) === undefined) throw new Error(`${needed} is not here to get ${packageName} with`);
  }
  await unpackWithoutRoot(packageName);
  const after = findProgram(name, toolsPath);
  if (after === undefined) throw new Error(`the package ${packageName} has no program ${name}`);
  return after;
}

/** The folder below which a package unpacked without root keeps its files ('/usr' beneath it). */
export function unpackedTools() {
  return toolsFolder;
}

/** This machine's release, and the mirror that serves it, read from apt itself. */
async function ownMirror() {
  const codename = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const { stdout } = await run('apt-get', ['indextargets', '--format', '$(SITE) $(RELEASE)']);
  const lines = stdout.split('\n').map((line) => line.split(' '));
  const site = lines.find(([, release]) => release === codename)?.[0];
  if (site === undefined) throw new Error('apt names no mirror for this release');
  return { codename, site };
}

/**
 * The environment for apt commands that know one source only and keep all their files below `folder`: they need no root
 * and change nothing on the machine. The lists are fetched when they are not there yet.
 */
async function privateApt(folder, source) {
  mkdirSync(join(folder, 'state', 'lists', 'partial'), { recursive: true });
  mkdirSync(join(folder, 'cache', 'archives', 'partial'), { recursive: true });
  writeFileSync(join(folder, 'sources.list'), source);
  const config = join(folder, 'apt.conf');
  writeFileSync(
    config,
    [
      `Dir::State "${folder}/state";`,
      `Dir::State::lists "${folder}/state/lists";`,
      `Dir::State::status "/var/lib/dpkg/status";`,
      `Dir::Cache "${folder}/cache";`,
      `Dir::Etc::sourcelist "${folder}/sources.list";`,
      `Dir::Etc::sourceparts "-";`,
      `APT::Sandbox::User "";`,
      '',
    ].join('\n'),
  );
  const env = { ...quietEnv, APT_CONFIG: config };
  const haveLists = readdirSync(join(folder, 'state', 'lists')).some((name) => /(Sources|Packages)/.test(name));
  if (!haveLists) await run('apt-get', ['-q', 'update'], { env });
  return env;
}

/**
 * Downloads the original archive of a Debian source package of `suite` into `folder`, keeping apt's files in `work`.
 */
export async function downloadSourceArchive(packageName, suite, folder, work) {
  const { site } = await ownMirror();
  const env = await privateApt(work, `deb-src [signed-by=${keyring}] ${site} ${suite} main\n`);
  await run('apt-get', ['-q', 'source', '--tar-only', '--download-only', packageName], { cwd: folder, env });
}
