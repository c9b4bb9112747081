/**
 * The drives of this server, in the control thread: opened and locked at start, matched with what metadata says of
 * them, watched, taken out, brought back, and replaced by blank ones.
 *
 * A place is a configured path; the order of paths is the layout (drive/roster.ts). Metadata says which drive belongs
 * there (drive_records.ts).
 */
import type { DriveState } from '../../drive/drive.js'
import { DriveTable } from '../../drive/drive_table.js'
import type { DriveRow } from '../../drive/drive_table.js'
import { repairFormat, writeFormat } from '../../drive/format.js'
import type { DriveFormat } from '../../drive/format.js'
import { HealthMonitor } from '../../drive/health_monitor.js'
import type { DriveEvent, MonitoredDrive } from '../../drive/health_monitor.js'
import { openDrives } from '../../drive/open_drives.js'
import type { JoinCluster, OpenedDrives, OpenedPlace } from '../../drive/open_drives.js'
import type { TargetState } from '../../layout/placement.js'
import { MetadataError } from '../../meta/engine.js'
import type { MetadataEngine } from '../../meta/engine.js'
import type { DriveRecord } from '../../meta/schema.js'
import type { Config } from '../config/settings.js'
import { AUTO } from '../config/units.js'
import type { Logger } from '../log.js'
import type { MetadataDrive } from '../threads/metadata_worker.js'
import type { Topology } from '../threads/topology.js'
import { DriveSegments } from './drive_segments.js'
import type { LoadableDrive } from './drive_segments.js'
import { DriveRecords, DriveRefusal, replacementOf, seemsUnmounted, STRIPE_SIZE } from './drive_records.js'
import { LayoutKeeper } from './layout_keeper.js'
import { capacitiesOf, makeTopology } from './topology_maker.js'
import type { Place } from './topology_maker.js'

/** Whom the registry tells of changes once the server runs. */
export interface DriveWatcher {
  changed(topology: Topology): void
  /** A drive of this set is back, or was replaced. */
  returned(set: number): void
  metadata: { addDrive(drive: MetadataDrive): void; removeDrive(number: number, reason: string): void }
}

/** Drives that a process can get to know in its life, replacements included. */
const ROWS = 4096
const RETRY_MS = 500
const REPLACE_RETRY_MS = 5000

export class DriveRegistry {
  readonly driveTable: DriveTable = DriveTable.create(ROWS)
  readonly #config: Config
  readonly #log: Logger
  readonly #opened: OpenedDrives
  readonly #records: DriveRecords
  readonly #monitor: HealthMonitor
  readonly segments: DriveSegments
  #places: Place[] = []
  #topology: Topology | undefined
  #nextRow = 0
  #healing = new Set<number>()
  #node: number | undefined
  /** Sets of which damage was found before anybody could be told. */
  readonly #damagedSets = new Set<number>()
  #client: MetadataEngine | undefined
  #watcher: DriveWatcher | undefined
  /** Replacements run one after the other. */
  #replacing: Promise<void> = Promise.resolve()
  readonly #layout = new LayoutKeeper()
  #layoutKept: Promise<void> = Promise.resolve()

  private constructor(config: Config, log: Logger, opened: OpenedDrives) {
    this.#config = config
    this.#log = log
    this.#opened = opened
    this.#records = new DriveRecords(opened)
    this.segments = new DriveSegments(log, (set) => {
      if (this.#watcher === undefined) this.#damagedSets.add(set)
      else this.#watcher.returned(set)
    })
    this.#monitor = new HealthMonitor([], {
      intervalMs: config.driveCheckInterval,
      deadlineMs: config.driveDeadline,
      reserveBytes: config.driveReserve,
      onEvent: (event) => {
        this.#onEvent(event)
      },
    })
  }

  /** Locks and reads the drives. Rejects with DrivesRefusedError. */
  static async open(
    paths: readonly string[],
    config: Config,
    log: Logger,
    join?: JoinCluster,
  ): Promise<DriveRegistry> {
    const opened = await openDrives({
      paths,
      ...(join === undefined ? {} : { join }),
      setSize: config.setSize === AUTO ? 0 : config.setSize,
      parity: config.parity === AUTO ? undefined : config.parity,
      deadlineMs: config.driveDeadline,
    })
    return new DriveRegistry(config, log, opened)
  }

  get clusterId(): string {
    return this.#opened.clusterId
  }

  get topology(): Topology {
    if (this.#topology === undefined) throw new Error('the drives are not reconciled with metadata yet')
    return this.#topology
  }

  /** Drives that metadata copies may lie on. */
  get metadataDrives(): MetadataDrive[] {
    if (this.#places.length > 0) {
      return this.#places
        .filter(({ monitored }) => isHere(monitored.row.state))
        .map(({ record, path }) => ({ number: record.number, path }))
    }
    return this.#opened.places.flatMap(({ state, format, path }) =>
      state === 'present' && format !== undefined ? [{ number: format.number, path }] : [],
    )
  }

  /** True when every set can be read, so that metadata kept on m+1 drives is there as well. */
  get readable(): boolean {
    return this.topology.sets.every(({ k, drives }) => {
      const here = this.#places.filter(
        ({ record, monitored }) => drives.includes(record.number) && isHere(monitored.row.state),
      )
      return here.length >= k
    })
  }

  /** Another client of the metadata, after it was opened anew. */
  use(client: MetadataEngine): void {
    this.#client = client
    this.#publish()
  }

  get metadataCopies(): number {
    const { parity, setCount, setSize } = this.#opened.layout
    const wanted = this.#config.metadataCopies === AUTO ? parity + 1 : this.#config.metadataCopies
    return Math.min(wanted, setCount * setSize)
  }

  /** Replacements that are not yet proved to hold everything, as metadata says now. */
  healingDrives(): Set<number> {
    try {
      this.#client?.reader.refresh()
      this.#healing = new Set(
        (this.#client?.reader.drives() ?? []).filter((r) => r.healing).map((r) => r.number),
      )
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error
    }
    return this.#healing
  }

  describe(): string {
    const { setCount, setSize, parity } = this.#opened.layout
    const geometry = `${String(setSize - parity)}+${String(parity)}`
    const drives = `${String(setCount * setSize)} ${setCount * setSize === 1 ? 'drive' : 'drives'}`
    return setCount === 1 ? `${drives} (${geometry})` : `${drives} (${String(setCount)} sets of ${geometry})`
  }

  /** Makes the cluster in metadata at its first start, else checks that the drives are those it knows. */
  async reconcile(client: MetadataEngine, node?: number): Promise<void> {
    this.#client = client
    this.#node = node
    client.reader.refresh()
    const cluster = client.reader.cluster()
    if (cluster === undefined) {
      await this.#records.makeCluster(client)
      this.#log.info({ clusterId: this.clusterId, drives: this.describe() }, 'a new cluster was made')
    } else this.#records.check(cluster)
    await this.#opened.confirmMembers()
    if (node !== undefined) await this.#records.claim(client, node)
    await this.#matchPlaces(client)
    await this.#monitor.probeAll()
    await this.#recover()
    this.#publishNow()
    await this.#keepLayout()
  }

  watch(watcher: DriveWatcher): void {
    this.#watcher = watcher
    this.#monitor.start()
    for (const set of this.#damagedSets) watcher.returned(set)
    this.#damagedSets.clear()
    // Events before this found nobody to tell: blank places are asked for again.
    for (const place of this.#places) if (place.blank) this.#replaceLater(place)
  }

  unwatch(): void {
    this.#watcher = undefined
    void this.#monitor.stop()
  }

  /** By the operator's wish; false when this server has no such drive. */
  async operate(number: number, action: 'takeOut' | 'bringBack'): Promise<boolean> {
    const place = this.#places.find(({ record }) => record.number === number)
    if (place === undefined) return false
    place.monitored.row.set('offline', action === 'takeOut' ? 'operator' : 'notOpened')
    await this.#monitor.probeAll()
    return true
  }

  async #matchPlaces(client: MetadataEngine): Promise<void> {
    for (const opened of this.#opened.places) {
      if (opened.format !== undefined) await this.#records.finishReplacement(client, opened, opened.format)
    }
    client.reader.refresh()
    const records = client.reader.drives()
    for (const opened of this.#opened.places) {
      const record = this.#records.recordAt(records, opened)
      if (record === undefined) throw new DriveRefusal(`metadata knows no drive for ${opened.path}`)
      const monitored = this.#monitorPlace(opened, record)
      const stranger = opened.format !== undefined && opened.format.driveId !== record.driveId
      if (stranger)
        this.#log.error(
          { path: opened.path, drive: opened.format?.number },
          'this drive was replaced and is refused',
        )
      const here = opened.state === 'present' && !stranger
      monitored.row.set(
        here ? 'online' : stranger ? 'refused' : 'offline',
        here ? 'none' : stranger ? 'format' : 'missing',
      )
      this.#monitor.watch(monitored)
      this.#places.push({ path: opened.path, record, monitored, blank: opened.state === 'blank' })
      if (opened.state === 'out')
        this.#log.warn({ path: opened.path, reason: opened.reason }, 'a drive is out')
    }
  }

  #monitorPlace(opened: OpenedPlace, record: DriveRecord): MonitoredDrive {
    const monitored: MonitoredDrive = {
      path: opened.path,
      io: opened.io,
      row: this.#newRow(record.number),
      format: this.#records.formatFor(record, 'member'),
    }
    return monitored
  }

  #newRow(number: number): DriveRow {
    if (this.#nextRow >= ROWS)
      throw new DriveRefusal(`more than ${String(ROWS)} drives in the life of one process; start it again`)
    const row = this.driveTable.row(this.#nextRow++)
    row.number = number
    return row
  }

  /** Ends what a crash left half done; a drive that cannot take that now keeps it. */
  async #recover(): Promise<void> {
    await Promise.all(
      this.#places.map(async (place) => {
        const { path, monitored } = place
        if (!isHere(monitored.row.state)) return
        const drive = loadable(place)
        const opened = this.segments.open(drive)
        if (monitored.row.state === 'online') {
          await opened.recover().catch((error: unknown) => {
            this.#log.warn({ err: error, path }, 'what a crash may have left could not be ended')
          })
        }
        this.segments.load(drive, opened)
      }),
    )
  }

  /** Again later while no metadata copy can be read: what is published then is newer still. */
  #publish(): void {
    try {
      this.#publishNow()
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error
      this.#log.warn({ err: error }, 'the topology is published later')
      setTimeout(() => {
        if (this.#watcher !== undefined) this.#publish()
      }, RETRY_MS)
    }
  }

  #publishNow(): void {
    const client = this.#client
    if (client === undefined) return
    client.reader.refresh()
    const sets = client.reader.sets().filter((set) => this.#node === undefined || set.node === this.#node)
    const own = new Set(sets.map((set) => set.number))
    const next = makeTopology({
      version: (this.#topology?.version ?? 0) + 1,
      clusterId: this.#opened.clusterId,
      stripeSize: client.reader.cluster()?.stripeSize ?? STRIPE_SIZE,
      sets,
      records: client.reader.drives().filter((drive) => own.has(drive.set)),
      places: this.#places,
      rowOf: (row) => this.#rowIndex(row),
      layout: this.#layout.read(client.reader),
      segmentsOf: (drive) => this.segments.memory(drive),
    })
    const same = JSON.stringify({ ...next, version: 0 }) === JSON.stringify({ ...this.#topology, version: 0 })
    if (same) return
    this.#topology = next
    this.#watcher?.changed(next)
  }

  /** By the operator's wish. Rejects as LayoutKeeper.setState does. */
  async changeSetState(set: number, state: TargetState): Promise<void> {
    const changed = this.#layoutKept.then(async () => {
      if (this.#client === undefined) throw new MetadataError('unavailable', 'the metadata is not open')
      if (!(await this.#layout.setState(this.#client, set, state))) return
      this.#publishNow()
      this.#log.info({ set, state, layout: this.#topology?.layout?.version }, 'a set has changed its state')
    })
    this.#layoutKept = changed.catch(() => undefined)
    await changed
  }

  /** What the layout says of each set; undefined when the cluster has none. */
  layoutReport(): ReturnType<LayoutKeeper['report']> {
    return this.#layout.report()
  }

  /** Runs one after the other; what fails is tried again with the next change of a drive. */
  #keepLayout(): Promise<void> {
    this.#layoutKept = this.#layoutKept.then(async () => {
      const client = this.#client
      const sets = this.#topology?.sets ?? []
      if (client === undefined || sets.length < 2) return
      try {
        if (!(await this.#layout.keep(client, capacitiesOf(sets, this.#places), this.#node))) return
        this.#publishNow()
        this.#log.info({ layout: this.#topology?.layout?.version }, 'the layout was changed')
      } catch (error) {
        this.#log.warn({ err: error }, 'the layout could not be brought up to date')
      }
    })
    return this.#layoutKept
  }

  #rowIndex(row: DriveRow): number {
    for (let i = 0; i < this.#nextRow; i++) if (this.driveTable.row(i).number === row.number) return i
    throw new Error(`drive ${String(row.number)} has no row`)
  }

  #onEvent(event: DriveEvent): void {
    const place = this.#places.find(({ monitored }) => monitored === event.drive)
    if (place === undefined) return
    if (event.kind === 'formatRepaired')
      this.#log.warn({ path: place.path }, 'a damaged copy of format.json was rewritten')
    else if (event.kind === 'blank') this.#replaceLater(place)
    else if (event.kind === 'mediumUnreachable')
      this.#log.warn(
        { path: place.path },
        'heals and scrubs of this drive can only be proved from the page cache',
      )
    else this.#stateChanged(place, event)
  }

  #stateChanged(place: Place, event: Extract<DriveEvent, { kind: 'state' }>): void {
    const { from, health } = event
    const { number, set } = place.record
    const fields = { drive: number, path: place.path, from, to: health.state, reason: health.reason }
    if (health.state === 'online') this.#log.info(fields, 'a drive is back')
    else this.#log.warn(fields, 'the state of a drive has changed')
    const gone = (state: string): boolean => state === 'offline' || state === 'refused'
    if (gone(health.state) && !gone(from)) this.#watcher?.metadata.removeDrive(number, health.reason)
    if (!gone(health.state) && gone(from)) this.#watcher?.metadata.addDrive({ number, path: place.path })
    if (isHere(health.state)) this.segments.load(loadable(place))
    if (health.state === 'online' && from === 'full') this.segments.refill(loadable(place))
    if (health.state === 'online') this.#watcher?.returned(set)
    this.#publish()
    void this.#keepLayout()
  }

  #replaceLater(place: Place): void {
    place.blank = true
    if (!this.#config.driveReplaceBlank) {
      this.#log.warn(
        { path: place.path },
        'a blank directory lies where a drive should be; drive.replace-blank is off',
      )
      return
    }
    if (this.#watcher === undefined) return
    this.#replacing = this.#replacing
      .then(() => this.#replace(place))
      .catch((error: unknown) => {
        this.#log.error({ err: error, path: place.path }, 'the drive could not be replaced; trying again')
        setTimeout(() => {
          if (place.blank) this.#replaceLater(place)
        }, REPLACE_RETRY_MS)
      })
  }

  async #replace(place: Place): Promise<void> {
    const client = this.#client
    if (client === undefined || !place.blank) return
    const well = this.#places.filter((other) => other !== place && other.monitored.row.state === 'online')
    if (await seemsUnmounted(place.path, well.map((other) => other.path))) {
      this.#log.error(
        { path: place.path },
        'a blank directory, while other drives are mount points: taken for one that is not mounted',
      )
      return
    }
    client.reader.refresh()
    const old = place.record
    place.candidate ??= replacementOf(old, client.reader.drives())
    const record = place.candidate
    const { io } = place.monitored
    const format = this.#records.formatFor(record, 'initialising')
    await writeFormat(io, format)
    const refused = await this.#records.replace(client, old, format)
    if (refused !== '') {
      delete place.candidate
      throw new Error(refused)
    }
    delete place.candidate
    const member: DriveFormat = { ...format, state: 'member' }
    await repairFormat(io, member)
    place.record = record
    place.blank = false
    place.monitored.row = this.#newRow(record.number)
    place.monitored.format = member
    place.monitored.row.set('online', 'none')
    this.segments.load(loadable(place))
    this.#log.info(
      { path: place.path, old: old.number, drive: record.number },
      'a blank drive has taken the place of another',
    )
    this.#publish()
    this.segments.forget(old.number)
    this.#watcher?.metadata.removeDrive(old.number, 'replaced')
    this.#watcher?.metadata.addDrive({ number: record.number, path: place.path })
    this.#watcher?.returned(record.set)
    await this.#keepLayout()
  }
}

function isHere(state: DriveState): boolean {
  return state === 'online' || state === 'full' || state === 'readOnly'
}

function loadable({ path, record, monitored }: Place): LoadableDrive {
  return { path, record, io: monitored.io, row: monitored.row }
}
