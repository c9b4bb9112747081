/**
 * Sockets shared by threads through SO_REUSEPORT, and the priority of a thread. Errors carry the errno name as `code`.
 */
import { addon } from './addon.js'

/**
 * A TCP socket bound to a numeric IPv4 or IPv6 address with SO_REUSEPORT, not yet listening. The caller owns the
 * descriptor: pass it to `server.listen({ fd })`. Port 0 lets the system choose.
 */
export function bindReusePort(host: string, port: number): { fd: number; port: number } {
  return addon.bindReusePort(host, port)
}

/** Sets the nice value (0..19) of the calling thread alone. */
export function setThreadNice(nice: number): void {
  addon.setThreadNice(nice)
}
