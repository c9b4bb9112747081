/** Rules about the repository's own files that no compiler checks. Each problem is reported as `file:line: what`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

const root = packageFolder();
const longestLine = 120;
const code = /\.(ts|mjs|cc|h|gyp)$|CMakeLists\.txt$/;

/** Files below version control; in a copy without git, every file that is not a product. */
function repositoryFiles(): string[] {
  try {
    const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return listed.split('\n').filter((name) => name !== '' && isFile(name));
  } catch {
    return walk('');
  }
}

function isFile(name: string): boolean {
  return existsSync(join(root, name)) && statSync(join(root, name)).isFile();
}

function walk(folder: string): string[] {
  const made = ['node_modules', 'dist', 'build', '.cache', 'data', 'native/vendor/src', 'native/vendor/out'];
  const products = ['.git', ...made];
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (products.includes(name)) return [];
    return entry.isDirectory() ? walk(name) : entry.isFile() ? [name] : [];
  });
}

const files = repositoryFiles();

function linesOf(name: string): string[] {
  return readFileSync(join(root, name), 'utf8').split('\n');
}

/** Every line of `names` for which `problem` has something to say. */
function problems(names: readonly string[], problem: (line: string) => string | undefined): string[] {
  return names.flatMap((name) =>
    linesOf(name).flatMap((line, index) => {
      const what = problem(line);
      return what === undefined ? [] : [`${name}:${index + 1}: ${what}`];
    }),
  );
}

/** Fails with one line for each problem. */
function assertNone(found: readonly string[]): void {
  assert.ok(found.length === 0, `${found.length} problems:\n${found.join('\n')}`);
}

const codeFiles = files.filter((name) => code.test(name));
const textFiles = files.filter((name) => code.test(name) || /\.(md|json|yaml|yml)$|^\.ci\//.test(name));

test('no line of code is longer than 120 columns, but for texts', () => {
  // A text that cannot be broken sensibly may stand out, but nothing beside it.
  const texts = /'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`/g;
  const tooLong = (line: string): string | undefined =>
    line.length > longestLine && line.replace(texts, '').length > 80
      ? `${line.length} columns, at most ${longestLine}`
      : undefined;
  assertNone(problems(codeFiles, tooLong));
});

test('no line ends in blanks or holds a tab', () => {
  const blanks = (line: string): string | undefined =>
    /[ \t]$|\t/.test(line) ? 'blank at the end, or a tab' : undefined;
  assertNone(problems(codeFiles, blanks));
});

test('nothing is left to be done later', () => {
  const words = ['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'];
  const marker = new RegExp(words.map((word) => `\\b${word}\\b`).join('|'));
  const reminder = (line: string): string | undefined =>
    marker.test(line) ? 'a reminder: do it or drop it' : undefined;
  assertNone(problems(textFiles.filter((name) => name !== 'package-lock.json'), reminder));
});

test('no test is switched off or left alone', () => {
  const only = (line: string): string | undefined =>
    /\b(test|it|describe|suite)\.(only|skip|todo)\b/.test(line) ? 'a test that is switched' : undefined;
  const tests = codeFiles.filter((name) => /^test\/.*\.test\.ts$/.test(name) && name !== 'test/tidy.test.ts');
  assertNone(problems(tests, only));
});

test('every markdown page has one title, on its first line', () => {
  const pages = files.filter((name) => name.endsWith('.md'));
  const wrong = pages.filter((name) => {
    let fenced = false;
    const titles = linesOf(name).flatMap((line, index) => {
      if (line.startsWith('```')) fenced = !fenced;
      return !fenced && line.startsWith('# ') ? [index] : [];
    });
    return titles.length !== 1 || titles[0] !== 0;
  });
  assertNone(wrong);
});

test('the native source lists name every file once, and both builds read them', () => {
  const lists = JSON.parse(readFileSync(join(root, 'native/sources.json'), 'utf8')) as Record<string, string[]>;
  const listed = Object.entries(lists)
    .filter(([name]) => !name.startsWith('flags_'))
    .flatMap(([, sources]) => sources);
  const present = files.filter((name) => name.endsWith('.cc') && /^(native|test\/native)\//.test(name));
  assert.deepEqual([...listed].sort(), [...present].sort());
  for (const [name] of Object.entries(lists).filter(([list]) => !/^(neon_)?tests$/.test(list))) {
    assert.ok(readFileSync(join(root, 'binding.gyp'), 'utf8').includes(`sources.mjs ${name})`), `binding.gyp: ${name}`);
    const cmake = readFileSync(join(root, 'CMakeLists.txt'), 'utf8');
    const group = /^(kernels|flags)_(.*)$/.exec(name);
    const read = group === null ? cmake.includes(`source_list(${name} `) : cmake.includes(`${group[2]}`);
    assert.ok(read, `CMakeLists.txt: ${name}`);
  }
});

test('the core knows nothing of JavaScript', () => {
  const core = codeFiles.filter((name) => /^native\/.*\.(cc|h)$/.test(name) && !name.startsWith('native/addon/'));
  const header = (line: string): string | undefined =>
    /^#include\s+[<"](napi|node|js_native|v8|uv)/.test(line) ? 'a header of Node in the core' : undefined;
  assertNone(problems(core, header));
});

test('no file names a package registry or a mirror', () => {
  const hosts = ['registry.npmjs' + '.org', 'deb.debian' + '.org', 'pypi' + '.org', 'proxy.golang' + '.org'];
  const host = (line: string): string | undefined => hosts.find((name) => line.includes(name));
  assertNone(problems(textFiles, host));
});
