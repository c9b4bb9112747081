/**
 * Reads transcript files: directives with their expected output, and prose between them.
 *
 *   # prose
 *   directive word key=value key=(value, value)     a line that ends in \ is continued
 *   input lines
 *   ----
 *   expected output, up to the first blank line; or, if the output holds blank lines, a second ---- and
 *   everything up to two lines of ----
 */
export interface Argument {
  readonly key: string;
  /** Empty for a bare word. */
  readonly values: readonly string[];
}

export interface Directive {
  readonly line: number;
  readonly command: string;
  readonly args: readonly Argument[];
  readonly input: string;
  readonly expected: string;
}

export class TranscriptSyntaxError extends Error {}

class Lines {
  private readonly lines: readonly string[];
  /** Of the line returned last, from 1. */
  number = 0;

  constructor(text: string) {
    this.lines = text
      .replace(/\n$/, '')
      .split('\n')
      .map((line) => line.replace(/\r$/, ''));
  }

  next(): string | undefined {
    const line = this.lines[this.number];
    if (line !== undefined) this.number++;
    return line;
  }

  peek(): string | undefined {
    return this.lines[this.number];
  }
}

export function parseTranscript(text: string): Directive[] {
  const lines = new Lines(text);
  const directives: Directive[] = [];
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const start = lines.number;
    const words = splitWords(joinContinued(trimmed, lines), start);
    const command = words[0]!;
    if (command === 'subtest') continue;
    directives.push({
      line: start,
      command,
      args: words.slice(1).map((word) => parseArgument(word, start)),
      input: readInput(lines, start),
      expected: readExpected(lines),
    });
  }
  return directives;
}

function joinContinued(first: string, lines: Lines): string {
  let joined = first;
  while (joined.endsWith('\\')) {
    joined = `${joined.slice(0, -1).trimEnd()} ${(lines.next() ?? '').trim()}`;
  }
  return joined;
}

function readInput(lines: Lines, start: number): string {
  const input: string[] = [];
  for (let line = lines.next(); line !== '----'; line = lines.next()) {
    if (line === undefined) throw new TranscriptSyntaxError(`line ${start}: directive without ----`);
    input.push(line);
  }
  return input.join('\n').trim();
}

function readExpected(lines: Lines): string {
  const expected: string[] = [];
  if (lines.peek() === '----') {
    lines.next();
    for (let line = lines.next(); line !== undefined; line = lines.next()) {
      if (line === '----' && lines.peek() === '----') {
        lines.next();
        break;
      }
      expected.push(line);
    }
  } else {
    for (let line = lines.next(); line !== undefined && line.trim() !== ''; line = lines.next())
      expected.push(line);
  }
  return expected.map((line) => `${line}\n`).join('');
}

/** Splits at spaces outside parentheses. */
function splitWords(line: string, number: number): string[] {
  const words: string[] = [];
  let depth = 0;
  let word = '';
  for (const char of `${line} `) {
    if (/\s/.test(char) && depth === 0) {
      if (word !== '') words.push(word);
      word = '';
      continue;
    }
    if (char === '(') depth++;
    if (char === ')') depth--;
    word += char;
  }
  if (depth !== 0) throw new TranscriptSyntaxError(`line ${number}: parentheses do not match`);
  return words;
}

function parseArgument(word: string, number: number): Argument {
  const match = /^([^=()]+)(?:=(.*))?$/s.exec(word);
  if (match === null) throw new TranscriptSyntaxError(`line ${number}: cannot read argument ${word}`);
  const [, key = '', value] = match;
  if (value === undefined) return { key, values: [] };
  if (!(value.startsWith('(') && value.endsWith(')'))) return { key, values: [value] };
  const inner = value.slice(1, -1);
  return { key, values: inner.trim() === '' ? [] : splitCommas(inner) };
}

/** Splits at commas (or spaces) outside inner parentheses. */
function splitCommas(text: string): string[] {
  const values: string[] = [];
  let depth = 0;
  let value = '';
  for (const char of `${text},`) {
    if (depth === 0 && (char === ',' || char === ' ')) {
      if (value !== '' || char === ',') values.push(value);
      value = '';
      continue;
    }
    if (char === '(') depth++;
    if (char === ')') depth--;
    value += char;
  }
  return values.filter((one, i) => one !== '' || i === 0);
}
