/**
 * node scripts/lib/etcd.mjs: prints the path of etcd, which bench/metadata measures beside our own. When it is missing
 * it is unpacked below .cache/tools from Debian's package; it is never installed, since that would start a service.
 */
import { unpackProgram } from './apt.mjs';

try {
  process.stdout.write(`${await unpackProgram('etcd', 'etcd-server')}\n`);
} catch (error) {
  process.stderr.write(`${error.message.split('\n')[0]}\n`);
  process.exit(1);
}
