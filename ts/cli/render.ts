/** Plain-text tables, sizes, and progress bars. */
import type { BackgroundProgress, JobProgress, TaskProgress } from '../store/background/progress.js'

export function table(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(0, ...rows.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...rows.map((row) => (row[i] ?? '').length)),
  )
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = n
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? String(value) : value.toFixed(1)} ${units[unit] ?? ''}`
}

export function seconds(n: number): string {
  if (n < 90) return `${String(Math.round(n))} s`
  if (n < 5400) return `${String(Math.round(n / 60))} min`
  if (n < 172_800) return `${(n / 3600).toFixed(1)} h`
  return `${(n / 86_400).toFixed(1)} days`
}

/** `[#####.....]  50.0 %`, of a width that fits a terminal of 80 columns. */
export function bar(done: number, total: number, width = 30): string {
  const share = total <= 0 ? 1 : Math.min(1, done / total)
  const full = Math.round(share * width)
  return `[${'#'.repeat(full)}${'.'.repeat(width - full)}] ${(share * 100).toFixed(1).padStart(5)} %`
}

export function taskLine(task: TaskProgress): string {
  const rate = `${bytes(task.bytesPerSecond)}/s, ${task.partsPerSecond.toFixed(0)} parts/s`
  if (task.partsTotal === null) return `${task.subject}: ${String(task.partsDone)} parts, ${rate}`
  const eta = task.etaSeconds === null ? '' : `, ${seconds(task.etaSeconds)} left`
  return `${task.subject}: ${bar(task.partsDone, task.partsTotal)}  ${String(task.partsDone)}/${String(task.partsTotal)} parts, ${rate}${eta}`
}

export function jobLines(job: JobProgress): string[] {
  const counters = Object.entries(job.counters)
    .map(([name, n]) => `${name} ${String(n)}`)
    .join(', ')
  const lines = [
    `${job.job}: ${job.state}${job.detail === '' ? '' : ` (${job.detail})`}${counters === '' ? '' : `; ${counters}`}`,
  ]
  if (job.task !== null) lines.push(`  ${taskLine(job.task)}`)
  if (job.lastError !== '') lines.push(`  last error: ${job.lastError}`)
  return lines
}

export function backgroundLines(progress: BackgroundProgress, jobs?: readonly string[]): string[] {
  const chosen = jobs === undefined ? progress.jobs : progress.jobs.filter((job) => jobs.includes(job.job))
  const limit = progress.bandwidthLimit === 0 ? 'no limit' : `at most ${bytes(progress.bandwidthLimit)}/s`
  return [
    `waiting: ${String(progress.heals)} heals, ${String(progress.garbage)} garbage`,
    `bandwidth: ${bytes(progress.bandwidthUsed)}/s (${limit})`,
    ...(progress.collectionEnabled
      ? []
      : ['collection is off: confirm with `ostraka admin metadata enable-collection`']),
    ...chosen.flatMap(jobLines),
  ]
}
