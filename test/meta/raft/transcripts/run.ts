/**
 * Finds transcripts, runs them, compares.
 *
 * The kind of a file is the name of the nearest folder above it that is one of interaction, confchange,
 * quorum; a file that has no such folder is an interaction. Each file starts from nothing; its directives
 * build on each other.
 *
 * Log lines (level, space, text) are taken out of both sides before they are compared, since their wording is
 * free; everything else must be equal byte for byte.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ConfChangeRunner } from './confchange.js';
import { parseTranscript, type Directive } from './datadriven.js';
import { InteractionRunner } from './interaction.js';
import { QuorumRunner } from './quorum.js';

export interface TranscriptResult {
  readonly file: string;
  readonly directives: number;
  /** The first difference, or why the file could not be run. */
  readonly failure: string | undefined;
}

const runners = {
  interaction: () => new InteractionRunner(),
  confchange: () => new ConfChangeRunner(),
  quorum: () => new QuorumRunner(),
};

export function findTranscripts(path: string): string[] {
  if (statSync(path).isFile()) return [path];
  const names = readdirSync(path).sort();
  const below = names.map((name) => join(path, name));
  return below.flatMap((one) => {
    if (statSync(one).isDirectory()) return findTranscripts(one);
    return one.endsWith('.txt') ? [one] : [];
  });
}

export function runTranscript(file: string): TranscriptResult {
  let directives: readonly Directive[] = [];
  let at = 0;
  try {
    directives = parseTranscript(readFileSync(file, 'utf8'));
    const runner = runners[kindOf(file)]();
    for (const directive of directives) {
      at = directive.line;
      const failure = compare(directive, runner.handle(directive));
      if (failure !== undefined) return { file, directives: directives.length, failure };
    }
    const failure = directives.length === 0 ? `${file}: no directives` : undefined;
    return { file, directives: directives.length, failure };
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { file, directives: directives.length, failure: `${file}:${at}: ${text}` };
  }

  function compare(directive: Directive, actual: string): string | undefined {
    const expected = withoutLog(directive.expected);
    const got = withoutLog(actual === '' || actual.endsWith('\n') ? actual : `${actual}\n`);
    if (expected === got) return undefined;
    return `${file}:${directive.line}: ${directive.command}\n${difference(expected, got)}`;
  }
}

function kindOf(file: string): keyof typeof runners {
  for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
    const name = basename(folder);
    if (name === 'interaction' || name === 'confchange' || name === 'quorum') return name;
  }
  return 'interaction';
}

export function withoutLog(text: string): string {
  const kept = text.split('\n').filter((line) => !/^\s*(DEBUG|INFO|WARN|ERROR|FATAL) /.test(line));
  const rest = kept.join('\n');
  // A directive that did nothing but log says ok when it does not log.
  return rest === '' ? 'ok\n' : rest;
}

function difference(expected: string, actual: string): string {
  const want = expected.split('\n');
  const got = actual.split('\n');
  const line = want.findIndex((text, i) => text !== got[i]);
  const at = line < 0 ? want.length : line;
  const show = (lines: readonly string[], sign: string): string =>
    lines
      .slice(Math.max(0, at - 2), at + 6)
      .map((text, i) => `${i < Math.min(at, 2) ? ' ' : sign} ${text}`)
      .join('\n');
  const sides = `expected:\n${show(want, '-')}\nactual:\n${show(got, '+')}`;
  return `first difference in line ${at + 1} of the output\n${sides}`;
}
