/** Runs transcripts of kind `confchange`: membership changes computed one after the other, nothing else. */
import { Changer, type ChangeResult } from '../../../../ts/meta/raft/core/changer.js';
import type { ConfChangeKind, ConfChangeOp } from '../../../../ts/meta/raft/core/confchange.js';
import { describeConfiguration, describeProgressMap } from '../../../../ts/meta/raft/core/describe.js';
import { Tracker } from '../../../../ts/meta/raft/core/tracker.js';
import type { Directive } from './datadriven.js';

const kinds: Readonly<Record<string, ConfChangeKind>> = {
  v: 'add-node',
  l: 'add-learner',
  r: 'remove-node',
  u: 'update-node',
};

export function parseOps(input: string): ConfChangeOp[] {
  const tokens = input.split(/\s+/).filter((token) => token !== '');
  return tokens.map((token) => {
    const kind = kinds[token[0]!];
    if (kind === undefined || !/^\d+$/.test(token.slice(1))) throw new Error(`unknown input: ${token}`);
    return { kind, nodeId: Number(token.slice(1)) };
  });
}

export class ConfChangeRunner {
  private readonly tracker = new Tracker(10, Infinity);
  private lastIndex = 0;

  handle(directive: Directive): string {
    const changer = new Changer(this.tracker, this.lastIndex);
    this.lastIndex++;
    const result = this.change(changer, directive);
    if (result === undefined) return 'unknown command';
    if ('refused' in result) return `${result.refused}\n`;
    this.tracker.config = result.config;
    this.tracker.progress = result.progress;
    return `${describeConfiguration(result.config)}\n${describeProgressMap(result.progress)}`;
  }

  private change(changer: Changer, { command, args, input }: Directive): ChangeResult | undefined {
    switch (command) {
      case 'simple':
        return changer.simple(parseOps(input));
      case 'enter-joint':
        return changer.enterJoint(
          args.some((arg) => arg.key === 'autoleave' && arg.values[0] === 'true'),
          parseOps(input),
        );
      case 'leave-joint':
        return changer.leaveJoint();
      default:
        return undefined;
    }
  }
}
