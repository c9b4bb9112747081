/** Making, opening and removing the views of a copy: in LMDB, or in memory for simulations. */
import type { FileStat } from '../drive/io.js'
import { META, driveDurability, listNames, makeDirectory, removeDirectory } from './drive_files.js'
import type { MetaDrive } from './drive_files.js'
import { MetadataError } from './engine.js'
import { LmdbView } from './lmdb_view.js'
import { SimulatedView, SimulatedViewMedium } from './simulated_view.js'
import { remakeInChild, verifyInChild } from './verify_child.js'
import type { ViewStore } from './view_store.js'

/**
 * How much a view is trusted: not at all after an unclean stop (`verify`: every record is checked in a process of
 * its own, and a small view is written anew); `remake` after the second one in a row, whatever its size.
 */
export type Care = 'trust' | 'verify' | 'remake'

export interface OpenedView {
  view: ViewStore
  name: string
}

export interface ViewFactory {
  /** Names of what looks like a view on this drive, finished or not. */
  list(drive: MetaDrive): Promise<string[]>
  create(drive: MetaDrive, name: string): Promise<ViewStore>
  /** Throws MetadataError 'corrupt'. The view may have another name afterwards. */
  open(drive: MetaDrive, name: string, care: Care, note: (message: string) => void): Promise<OpenedView>
  remove(drive: MetaDrive, name: string): Promise<void>
  /** What readers in other threads open. */
  path(drive: MetaDrive, name: string): string
}

/** A view up to this size is written anew after every unclean stop: a matter of seconds. */
const SMALL_VIEW = 128 << 20

/** Between two notes about how far a check has come. */
const NOTE_MS = 5_000

const NAME = /^view-[0-9a-f]{1,12}$/

/**
 * A name that was never used before on this drive: LMDB knows an open view of this process by its path, also when
 * its files are gone. Names ascend with time.
 */
export function nextViewName(names: readonly string[]): string {
  const numbers = names.map((name) => Number.parseInt(name.slice('view-'.length), 16))
  lastName = Math.max(lastName, Date.now(), ...numbers) + 1
  return `view-${lastName.toString(16)}`
}

let lastName = 0

export const lmdbViews: ViewFactory = {
  async list(drive) {
    return (await listNames(drive.io, META)).filter((name) => NAME.test(name))
  },
  async create(drive, name) {
    await makeDirectory(drive.io, `${META}/${name}`)
    return LmdbView.create(driveDurability(drive, `${META}/${name}`))
  },
  async open(drive, name, care, note) {
    const files = driveDurability(drive, `${META}/${name}`)
    if (care === 'trust') return { view: LmdbView.open(files), name }
    const position = LmdbView.recover(files.path)
    let said = Date.now()
    const onProgress = (records: number): void => {
      if (Date.now() - said < NOTE_MS) return
      said = Date.now()
      note(`checked ${String(records)} records of the view after an unclean stop`)
    }
    const [{ size }] = (await drive.io.run([{ op: 'stat', path: `${META}/${name}/data.mdb` }])) as [FileStat]
    if (care === 'verify' && size > SMALL_VIEW) {
      await verifyInChild(files.path, onProgress)
      return { view: LmdbView.open(files), name }
    }
    const target = nextViewName(await lmdbViews.list(drive))
    await makeDirectory(drive.io, `${META}/${target}`)
    const remade = driveDurability(drive, `${META}/${target}`)
    await remakeInChild(files.path, remade.path, position, onProgress)
    return { view: LmdbView.open(remade), name: target }
  },
  async remove(drive, name) {
    await removeDirectory(drive.io, `${META}/${name}`)
  },
  path(drive, name) {
    return `${drive.path}/${META}/${name}`
  },
}

/** Views in memory that outlive an engine: what is in `media` is what the drives hold. */
export class SimulatedViews implements ViewFactory {
  readonly media: Map<string, SimulatedViewMedium> = new Map()

  list(drive: MetaDrive): Promise<string[]> {
    const prefix = `${String(drive.number)}/`
    const names = [...this.media.keys()].filter((name) => name.startsWith(prefix))
    return Promise.resolve(names.map((name) => name.slice(prefix.length)))
  }

  create(drive: MetaDrive, name: string): Promise<ViewStore> {
    const medium = new SimulatedViewMedium()
    this.media.set(this.path(drive, name), medium)
    return Promise.resolve(new SimulatedView(medium))
  }

  open(drive: MetaDrive, name: string): Promise<OpenedView> {
    const medium = this.media.get(this.path(drive, name))
    if (medium === undefined || medium.flushed.state.size === 0) {
      return Promise.reject(new MetadataError('corrupt', 'a view was never flushed'))
    }
    return Promise.resolve({ view: new SimulatedView(medium), name })
  }

  remove(drive: MetaDrive, name: string): Promise<void> {
    this.media.delete(this.path(drive, name))
    return Promise.resolve()
  }

  path(drive: MetaDrive, name: string): string {
    return `${String(drive.number)}/${name}`
  }
}
