import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseTranscript, TranscriptSyntaxError } from './transcripts/datadriven.js';
import { findTranscripts, runTranscript } from './transcripts/run.js';

const data = resolve(fileURLToPath(new URL('../../../../', import.meta.url)), '../shared/raft-testdata');

describe('data-driven transcripts', () => {
  if (!existsSync(data)) {
    test('shared transcripts', { skip: `${data} is not present` }, () => undefined);
    return;
  }
  for (const file of findTranscripts(data)) {
    test(`${relative(data, file)} plays as written`, () => {
      assert.equal(runTranscript(file).failure, undefined);
    });
  }
});

describe('transcript reader', () => {
  test('reads prose, continued lines, argument lists, input and both kinds of output', () => {
    const directives = parseTranscript(
      [
        '# prose',
        'one a b=c d=(e, f,g) \\',
        '   h=(1 2)',
        'input 1',
        'input 2',
        '----',
        'out 1',
        '  out 2',
        '',
        'two',
        '----',
        '----',
        'before',
        '',
        'after',
        '----',
        '----',
        '',
        'three x=',
        '----',
      ].join('\n'),
    );
    assert.deepEqual(directives, [
      {
        line: 2,
        command: 'one',
        args: [
          { key: 'a', values: [] },
          { key: 'b', values: ['c'] },
          { key: 'd', values: ['e', 'f', 'g'] },
          { key: 'h', values: ['1', '2'] },
        ],
        input: 'input 1\ninput 2',
        expected: 'out 1\n  out 2\n',
      },
      { line: 10, command: 'two', args: [], input: '', expected: 'before\n\nafter\n' },
      { line: 19, command: 'three', args: [{ key: 'x', values: [''] }], input: '', expected: '' },
    ]);
  });

  test('refuses a directive that never says what it expects', () => {
    assert.throws(() => parseTranscript('one\ntwo\n'), TranscriptSyntaxError);
  });

  test('reports the first difference, an unknown command and an impossible node as failures', () => {
    const folder = mkdtempSync(join(tmpdir(), 'ostraka-transcripts-'));
    try {
      mkdirSync(join(folder, 'confchange'));
      const play = (name: string, text: string): string | undefined => {
        const file = join(folder, name);
        writeFileSync(file, text);
        return runTranscript(file).failure;
      };
      assert.equal(
        play('confchange/right.txt', 'simple\nv1\n----\nvoters=(1)\n1: StateProbe match=0 next=1\n'),
        undefined,
      );
      assert.match(
        play('confchange/wrong.txt', 'simple\nv1\n----\nvoters=(2)\n') ?? '',
        /first difference in line 1/,
      );
      assert.match(play('strange.txt', 'dance 1\n----\nok\n') ?? '', /unknown command/);
      assert.equal(
        play('logged.txt', 'dance 1\n----\nINFO 1 would have danced\nunknown command\n'),
        undefined,
      );
      assert.match(play('nobody.txt', 'campaign 7\n----\nok\n') ?? '', /there is no node 7/);
      assert.equal(findTranscripts(folder).length, 5);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
