/** What a layout cannot do. */
export type PlacementErrorCode =
  | 'noTarget' // no target is active and has a weight
  | 'tooFewTargets' // more distinct targets were asked for than there are
  | 'badTarget' // a weight, state or set number that cannot be, or a set named twice
  | 'badTable' // memory that is not a placement table, or a size that is not one of the allowed ones
  | 'domains' // drives cannot be arranged so that a set survives the loss of a failure domain

export class PlacementError extends Error {
  readonly code: PlacementErrorCode
  constructor(code: PlacementErrorCode, detail: string) {
    super(`${code}: ${detail}`)
    this.name = 'PlacementError'
    this.code = code
  }
}
