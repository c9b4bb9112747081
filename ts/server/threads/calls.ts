/** What the control thread may ask of the others, and they of it. */
import type { BackgroundProgress } from '../../store/background/progress.js'
import type { MetricsSnapshot } from '../metrics/worker_metrics.js'
import type { Topology } from './topology.js'

type Common = {
  metrics: { takes: undefined; gives: MetricsSnapshot }
  topology: { takes: Topology; gives: undefined }
  /** Ends the task in order, within so many milliseconds. */
  stop: { takes: { withinMs: number }; gives: undefined }
}

export type DataWorkerCalls = Common

export type BackgroundWorkerCalls = Common & {
  progress: { takes: undefined; gives: BackgroundProgress }
  scrub: { takes: { action: 'start' | 'stop' }; gives: undefined }
  /** A drive came back or was replaced. */
  driveReturned: { takes: { set: number }; gives: undefined }
  healQueued: { takes: undefined; gives: undefined }
  orphanSearch: { takes: undefined; gives: undefined }
}

/** From any worker to the control thread. */
export type ControlCalls = {
  /** The task serves. */
  ready: { takes: undefined; gives: undefined }
  healQueued: { takes: undefined; gives: undefined }
  /** Compares the metadata copies; how many were bad and are remade. */
  compareMetadata: { takes: undefined; gives: number }
}
