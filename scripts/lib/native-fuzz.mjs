/**
 * The libFuzzer target of the C++ core (test/fuzz/native/core_fuzz.cc), under AddressSanitizer and
 * UndefinedBehaviorSanitizer. Needs clang with its fuzzer library; where that is missing, it is said and nothing counts
 * as passed or failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { findProgram, root, run, say } from './run.mjs';
import { filesBelow, hashInputs, removeStamp, stampHolds, writeStamp } from './stamp.mjs';

const folder = 'build/fuzz';
const product = `${folder}/core_fuzz`;
const stampFile = `${folder}/stamp`;
const corpus = join(root, 'test', 'fuzz', 'corpus', 'core');
const findings = join(root, 'test', 'fuzz', 'findings', 'core');

const sanitizers = ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize=vptr,alignment',
  '-fno-sanitize-recover=all'];
const sourceFlags = ['-std=gnu++20', `-I${root}`, `-isystem${join(root, 'native/vendor/out/include')}`];

/** Sources of the core that need no threads of their own, with the flags of their instruction set. */
function sources() {
  const lists = JSON.parse(readFileSync(join(root, 'native', 'sources.json'), 'utf8'));
  const core = lists.core.filter((name) => !/^native\/(io|net)\//.test(name)).map((name) => ({ name, flags: [] }));
  const sets = process.arch === 'x64' ? ['pclmul', 'ssse3', 'avx2', 'gfni256', 'avx512'] : ['neon'];
  const kernels = sets.flatMap((set) => lists[`kernels_${set}`].map((name) => (
    { name, flags: (lists[`flags_${set}`] ?? []).filter((flag) => !flag.startsWith('-W')) })));
  return [...core, ...kernels, { name: 'test/fuzz/native/core_fuzz.cc', flags: [] }];
}

/** A clang that has libFuzzer, or undefined. */
async function compiler() {
  const libraries = ['libclang_rt.fuzzer.a', 'libclang_rt.fuzzer-x86_64.a', 'libclang_rt.fuzzer-aarch64.a'];
  for (const name of ['clang++', 'clang++-19', 'clang++-16', 'clang++-14']) {
    const found = findProgram(name);
    if (found === undefined) continue;
    for (const library of libraries) {
      const { stdout } = await run(found, [`-print-file-name=${library}`], { mayFail: true });
      if (existsSync(stdout.trim())) return found;
    }
  }
  return undefined;
}

async function build(clang) {
  const files = [...filesBelow('native', (name) => name.startsWith('native/vendor')), 'test/fuzz/native/core_fuzz.cc'];
  const hash = hashInputs([clang, ...sanitizers, root], [...files, 'scripts/lib/native-fuzz.mjs']);
  if (stampHolds(stampFile, hash, [product])) return;
  removeStamp(stampFile);
  say('building the C++ fuzz target');
  mkdirSync(join(root, folder), { recursive: true });
  const objects = [];
  const rest = sources();
  const worker = async () => {
    for (let source = rest.shift(); source !== undefined; source = rest.shift()) {
      const object = join(root, folder, `${basename(source.name, '.cc')}.o`);
      objects.push(object);
      await run(clang, [...sourceFlags, ...source.flags, ...sanitizers, '-fsanitize=fuzzer-no-link', '-c',
        join(root, source.name), '-o', object]);
    }
  };
  await Promise.all([worker(), worker()]);
  const libraries = ['libisal.a', 'libzstd.a', 'libxxhash.a'].map((name) => join(root, 'native/vendor/out/lib', name));
  await run(clang, [...objects, ...libraries, ...sanitizers, '-fsanitize=fuzzer', '-lpthread', '-o',
    join(root, product)]);
  writeStamp(stampFile, hash);
}

/** Runs it for so many seconds, or replays one input. Resolves with true when nothing was found. */
export async function fuzzNative({ seconds, seed, replay, minimise }) {
  const clang = await compiler();
  if (clang === undefined) {
    say('SKIPPED: the C++ fuzz target is not run (clang with its fuzzer library, libclang-rt-dev, is missing)');
    return true;
  }
  await build(clang);
  mkdirSync(findings, { recursive: true });
  mkdirSync(corpus, { recursive: true });
  const work = mkdtempSync(join(tmpdir(), 'ostraka-fuzz-'));
  try {
    const options = replay === undefined
      ? [`-max_total_time=${Math.ceil(seconds)}`, '-max_len=4096', '-timeout=10', '-rss_limit_mb=2048',
        `-artifact_prefix=${findings}/`, '-print_final_stats=1', ...(seed === undefined ? [] : [`-seed=${seed}`]),
        work, corpus]
      : [replay];
    // libFuzzer tells all on stderr.
    const { status, stderr, error } = spawnSync(join(root, product), options, { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (error !== undefined) throw error;
    if (status !== 0) {
      process.stderr.write(stderr.split('\n').slice(-60).join('\n'));
      say("core: finding; again with: npm run test:fuzz -- --target core --replay 'the file named above'");
      return false;
    }
    const last = [...stderr.matchAll(/cov: (\d+) ft: (\d+) corp: (\d+)/g)].at(-1);
    const runs = /number_of_executed_units:\s*(\d+)/.exec(stderr)?.[1];
    process.stdout.write(replay !== undefined ? `core: ${replay} is answered as documented\n`
      : `core: ${runs} inputs, ${last?.[1]} places reached, ${last?.[3]} inputs kept, no finding\n`);
    if (minimise && replay === undefined) {
      await run(join(root, product), ['-set_cover_merge=1', '-max_len=512', corpus, work]);
    }
    return true;
  } finally {
    rmSync(work, { recursive: true, force: true });
    if (existsSync(findings)) rmdirIfEmpty();
  }
}

function rmdirIfEmpty() {
  if (filesBelow('test/fuzz/findings/core').length === 0) rmSync(findings, { recursive: true });
}
