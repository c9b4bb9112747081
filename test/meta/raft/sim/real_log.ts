/**
 * A node's log as it is in life: `ReplicaLog` over `CommandLog` over a simulated disk, on virtual time.
 *
 * What it inherits from `SimLog` is what the host was told: at every opening the log on the disk must hold just that,
 * or that and the whole of the write that was under way.
 */
import { SimulatedDisk, SimulatedDrive } from '../../../../ts/drive/simulated_io.js';
import { CommandLog } from '../../../../ts/meta/log/command_log.js';
import { RECORD_START, decodeFileHeader, encodeHardState, parseFile } from '../../../../ts/meta/log/frame.js';
import { NO_DATA, type EntryId } from '../../../../ts/meta/raft/core/types.js';
import type { Clock, Done, LogRecord, RecoveredLog } from '../../../../ts/meta/raft/host/environment.js';
import { recoverLog, ReplicaLog } from '../../../../ts/meta/raft/replica/replica_log.js';
import { SimLog, type DiskFaults } from './disk.js';
import type { Random } from './random.js';
import type { Process, Scheduler } from './scheduler.js';

const DIRECTORY = 'log';
const OPTIONS = { fileSize: 4096, deadlineMs: 2 ** 31 - 1, replicated: true };
const UNIT = 2 ** 30;

export class RealLog extends SimLog {
  readonly drive: SimulatedDrive;
  private replica: ReplicaLog | undefined = undefined;
  private made = false;
  private clearFaults: (() => void)[] = [];

  constructor(base: RecoveredLog, scheduler: Scheduler, random: Random, process: Process, faults: DiskFaults) {
    super(base, scheduler, random, process, faults);
    this.drive = new SimulatedDrive(new SimulatedDisk(), {
      random: () => random.below(UNIT) / UNIT,
      timer: (fire, ms) => scheduler.after(ms * 1000, 14, fire, process),
      turn: (run) => {
        const slow = random.permille(5) ? 20 : 1;
        scheduler.after(1 + (random.exponential(this.faults.latency) * slow) / 3, 13, run, process);
      },
    });
    this.addFaults();
  }

  private addFaults(): void {
    const { errors, hangs } = this.faults;
    const op = ['write', 'sync'] as const;
    for (const [permille, fault] of [
      [errors, { error: 'EIO' }],
      [errors, { error: 'ENOSPC' }],
      [hangs, { hang: true }],
    ] as const) {
      if (permille > 0) this.clearFaults.push(this.drive.addFault({ op, probability: permille / 3000, fault }));
    }
  }

  override calm(): void {
    super.calm();
    for (const clear of this.clearFaults.splice(0)) clear();
  }

  /**
   * What the node finds when it starts. Rejects with LogCorrupt, IoError, or an Error when acknowledged records miss.
   */
  async open(clock: Clock, applied: EntryId): Promise<RecoveredLog> {
    const io = this.drive.connect();
    const after = this.made ? 0 : this.before.index;
    if (!this.made) await this.make(io);
    const log = await CommandLog.open(io, DIRECTORY, OPTIONS);
    // Then it begins behind what the state machine has, also when that came with a snapshot a moment ago.
    const blank = log.isEmpty && log.firstIndex === 0;
    if (blank) log.startAt(applied.index + 1);
    const recovered = await recoverLog(log, { applied, after, keepBytes: 1 << 20 });
    this.compare(recovered, blank);
    const append: CommandLog['append'] = (records) => log.append(records);
    const release = (index: number): void => void log.release(index, 0).catch(() => undefined);
    this.replica = new ReplicaLog(0, { append, release }, clock);
    return recovered;
  }

  /** A crash in between leaves nothing that counts: it is made anew. */
  private async make(io: ReturnType<SimulatedDrive['connect']>): Promise<void> {
    const log = await CommandLog.create(io, DIRECTORY, 1, OPTIONS);
    await io.run([{ op: 'syncDir', path: '.' }]);
    if (this.before.index > 0) {
      const start = { type: RECORD_START, group: 0, epoch: 0, ...this.before, payload: NO_DATA };
      await log.append([start, encodeHardState(0, this.hardState)]);
    }
    await log.close();
    this.made = true;
  }

  /** The disk holds what the host was told, or that and the write that was under way. */
  private compare(recovered: RecoveredLog, blank: boolean): void {
    const shows = (): boolean => {
      const { term, vote, commit } = this.hardState;
      const own = recovered.hardState;
      const last = recovered.before.index + recovered.entries.length;
      if (own.term !== term || own.vote !== vote || own.commit !== commit) return false;
      if (blank ? this.entries.length > 0 : last !== this.lastIndex()) return false;
      return recovered.entries.every((entry) => {
        const known = this.entries[entry.index - this.before.index - 1];
        return known === undefined ? entry.index <= this.before.index : known.term === entry.term;
      });
    };
    const { pending } = this;
    this.pending = undefined;
    if (!shows() && pending !== undefined) this.persist(pending, pending.length);
    if (!shows()) throw new Error(`the log does not hold what was acknowledged: ${describe(recovered, this)}`);
    this.before = recovered.before;
    this.entries = [...recovered.entries];
  }

  override write(records: readonly LogRecord[], done: Done): void {
    if (this.pending !== undefined) throw new Error('two log writes at a time');
    this.pending = records;
    this.replica!.write(records, (error) => {
      if (error === undefined) {
        this.pending = undefined;
        this.persist(records, records.length);
      }
      done(error);
    });
  }

  override release(index: number): void {
    super.release(index);
    this.replica!.release(index);
  }

  override crash(power: boolean): void {
    if (power) this.drive.powerCut();
    else this.drive.kill();
    // Hung operations of the dead process are gone with it.
    this.replica = undefined;
  }

  /** A bit of a frame that a later one proves durable. False if there is none. */
  flip(): boolean {
    // A power cut may take the proof, if that is the frame under way.
    if (this.pending !== undefined) return false;
    const files = this.frames();
    const syncedTo = Math.max(0, ...files.map((file) => file.syncedTo));
    const places = files.flatMap(({ path, frames }) =>
      frames.filter(({ offset, size }) => offset + size <= syncedTo).map((frame) => ({ path, ...frame })),
    );
    if (places.length === 0) return false;
    const { path, at, length } = this.random.pick(places);
    this.drive.disk.flip(path, at + this.random.below(length), 1 << this.random.below(8));
    return true;
  }

  private frames(): Found[] {
    const files = this.drive.disk.files().filter(({ path }) => path.endsWith('.log'));
    return files.flatMap(({ path }) => {
      const bytes = Buffer.from(this.drive.disk.contents(path));
      const header = decodeFileHeader(bytes);
      if (typeof header === 'string') return [];
      const { frames, syncedTo } = parseFile(bytes, header.seed);
      let at = 64;
      const found = frames.map(({ offset, size }) => {
        const start = at;
        at += size;
        // Not the padding behind, which nobody reads.
        return { offset, size, at: start, length: bytes.readUInt32BE(start + 8) };
      });
      return [{ path, syncedTo, frames: found }];
    });
  }
}

interface Found {
  readonly path: string;
  readonly syncedTo: number;
  readonly frames: { readonly offset: number; readonly size: number; readonly at: number; readonly length: number }[];
}

function describe(found: RecoveredLog, told: SimLog): string {
  const text = ({ before, entries, hardState }: RecoveredLog): string =>
    JSON.stringify({ before, hardState, entries: entries.map(({ term, index }) => `${term}/${index}`) });
  return `${text(found)}, not ${text(told.recovered())}`;
}
