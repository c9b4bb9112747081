/**
 * `npm run dev:cluster [-- --nodes 3] [-- --folder DIR]`: nodes of one cluster on loopback, with fresh directories
 * and ports chosen by the system. Prints how to use and break them; Ctrl-C stops them all and removes the directories.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const main = resolve(import.meta.dirname, '../dist/ts/cli/main.js');
const { values } = parseArgs({ options: { nodes: { type: 'string', default: '3' }, folder: { type: 'string' } } });
const count = Number(values.nodes);
if (![1, 2, 3, 4, 5].includes(count)) throw new Error('--nodes: expected 1 to 5');

const temporary = values.folder === undefined;
const folder = temporary ? mkdtempSync(join(tmpdir(), 'ostraka-cluster-')) : resolve(values.folder);
const DRIVES = 2;
const START_MS = 120_000;
let stopping = false;

/** Ports that were free a moment ago. */
async function freePorts(n) {
  const servers = await Promise.all(Array.from({ length: n }, () => new Promise((done, fail) => {
    const server = createServer().once('error', fail);
    server.listen({ host: '127.0.0.1', port: 0 }, () => done(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

function nodeAt(number, [s3, admin, cluster]) {
  const home = join(folder, `node${number}`);
  for (let i = 1; i <= DRIVES; i++) mkdirSync(join(home, `drive${i}`), { recursive: true });
  return {
    name: `node${number}`,
    home,
    config: join(home, 'ostraka.yaml'),
    ready: join(home, 'ready.json'),
    endpoint: `http://127.0.0.1:${s3}`,
    admin: `127.0.0.1:${admin}`,
    s3: `127.0.0.1:${s3}`,
    cluster: `127.0.0.1:${cluster}`,
    child: undefined,
  };
}

function configure(node, first) {
  const lines = [
    `drives: ${node.home}/drive{1...${DRIVES}}`,
    `listen: ${node.s3}`,
    `admin-listen: ${node.admin}`,
    `credentials-file: ${first.home}/credentials`,
    `ready-file: ${node.ready}`,
    'workers: 1',
    'metadata.engine: replicated',
    'cluster:',
    `  name: ${node.name}`,
    `  listen: ${node.cluster}`,
    `  secret-file: ${first.home}/cluster-secret`,
    ...(node === first ? [] : [`  join: [${first.cluster}]`]),
  ];
  writeFileSync(node.config, `${lines.join('\n')}\n`);
}

function start(node) {
  node.child = spawn(process.execPath, [main, 'serve', '--config', node.config], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  const log = join(node.home, 'log');
  node.child.stderr.on('data', (data) => writeFileSync(log, data, { flag: 'a' }));
  node.child.on('exit', (code, signal) => {
    if (!stopping) console.log(`${node.name} ended (${signal ?? code}); its log is ${log}`);
  });
}

async function untilReady(node) {
  for (const until = Date.now() + START_MS; Date.now() < until; ) {
    if (existsSync(node.ready)) return;
    if (node.child.exitCode !== null) break;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${node.name} did not start:\n${readFileSync(join(node.home, 'log'), 'utf8').slice(-2000)}`);
}

function admin(node, ...args) {
  const { status, stderr } = spawnSync(
    process.execPath, [main, 'admin', 'metadata', ...args, '--config', node.config], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`admin metadata ${args.join(' ')}: ${stderr}`);
}

async function stopAll(nodes, code) {
  if (stopping) return;
  stopping = true;
  const running = nodes.filter(
    ({ child }) => child !== undefined && child.exitCode === null && child.signalCode === null,
  );
  await Promise.all(running.map(({ child }) => new Promise((done) => {
    child.once('exit', done);
    child.kill('SIGCONT');
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
  })));
  if (temporary) rmSync(folder, { recursive: true, force: true });
  process.exit(code);
}

function line({ name, child, endpoint, admin, cluster }) {
  return `  ${name}  pid ${child.pid}  S3 ${endpoint}  admin ${admin}  cluster ${cluster}`;
}

function explain(nodes) {
  const [first] = nodes;
  const again = (node) => `node ${main} serve --config ${node.config}`;
  console.log(`
${count} nodes are running below ${folder}:

${nodes.map(line).join('\n')}

Use them:
  export AWS_SHARED_CREDENTIALS_FILE=${first.home}/credentials AWS_REGION=us-east-1
  aws --endpoint-url ${first.endpoint} s3 mb s3://first
  aws --endpoint-url ${nodes.at(-1).endpoint} s3 ls          # metadata through any node
  node ${main} admin metadata status --config ${first.config}

Break them:
  kill -9 ${first.child.pid}                # the first node dies; start it again with
  ${again(first)} &
  kill -STOP ${first.child.pid}             # it sleeps; kill -CONT wakes it
  node ${main} admin metadata transfer-leadership 2 --config ${first.config}

Logs are in ${folder}/node*/log. Ctrl-C stops all${temporary ? ' and removes the directories' : ''}.`);
}

const ports = await freePorts(3 * count);
const nodes = Array.from({ length: count }, (_, i) => nodeAt(i + 1, ports.slice(3 * i, 3 * i + 3)));
process.on('SIGINT', () => void stopAll(nodes, 0));
process.on('SIGTERM', () => void stopAll(nodes, 0));
try {
  const [first] = nodes;
  for (const node of nodes) configure(node, first);
  for (const node of nodes) {
    console.log(`starting ${node.name} ...`);
    if (node !== first) admin(first, 'add-node', node.name, node.cluster);
    start(node);
    await untilReady(node);
    if (node !== first) admin(first, 'add-node', node.name, node.cluster, '--watch');
  }
  explain(nodes);
} catch (error) {
  console.error(error.message);
  await stopAll(nodes, 1);
}
