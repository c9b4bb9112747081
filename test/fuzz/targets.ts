/** The parsers of bytes that come from outside the process. */
import type { FuzzTarget } from './target.js'
import { format, hint, segment, shardHeader } from './targets/drive.js'
import { chunked, requestTarget, signature, values, xml } from './targets/http.js'
import { commands, logFile, value } from './targets/metadata.js'
import { argumentsOfAddon } from './targets/native.js'
import { raftMessage, rpcFrame, rpcHello, rpcMessage } from './targets/peers.js'

export const TARGETS: readonly FuzzTarget[] = [
  chunked, xml, requestTarget, signature, values, format, shardHeader, segment, hint, logFile, value, commands,
  rpcFrame, rpcHello, rpcMessage, raftMessage, argumentsOfAddon,
]
