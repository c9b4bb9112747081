import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { crc64nvme } from '../../ts/native/hash.js';

const hash = new URL('../../ts/native/hash.js', import.meta.url).href;
const erasure = new URL('../../ts/native/erasure.js', import.meta.url).href;
const codec = new URL('../../ts/native/codec.js', import.meta.url).href;

function inWorker(body: string): Worker {
  const source = `
    const { parentPort } = require('node:worker_threads');
    (async () => {
      const { crc64nvme } = await import(${JSON.stringify(hash)});
      const { encode, reconstruct } = await import(${JSON.stringify(erasure)});
      const { zstdCompress, zstdDecompress } = await import(${JSON.stringify(codec)});
      ${body}
    })();`;
  return new Worker(source, { eval: true });
}

test('every worker that loads the addon gets the same answers', async () => {
  const expected = crc64nvme(Buffer.alloc(100_000, 3));
  const workers = Array.from({ length: 6 }, () =>
    inWorker(`
      const data = Buffer.alloc(100_000, 3);
      if (!zstdDecompress(zstdCompress(data), data.length).equals(data)) throw new Error('zstd');
      parentPort.postMessage(crc64nvme(data));`),
  );
  const answers = await Promise.all(workers.map((worker) => once(worker, 'message')));
  for (const [answer] of answers) assert.equal(answer, expected);
  await Promise.all(workers.map((worker) => worker.terminate()));
});

test('workers that are stopped in the middle of calls take nothing else down', async () => {
  for (let round = 0; round < 8; round++) {
    const workers = Array.from({ length: 3 }, () =>
      inWorker(`
        const blocks = Array.from({ length: 6 }, () => Buffer.alloc(1 << 18, 1));
        parentPort.postMessage('running');
        for (;;) {
          encode(4, 2, 1 << 18, blocks.slice(0, 4), blocks.slice(4));
          reconstruct(4, 2, 1 << 18, [null, ...blocks.slice(1)], [0], [Buffer.alloc(1 << 18)]);
          zstdCompress(blocks[0]);
        }`),
    );
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    await sleep(round);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  assert.equal(crc64nvme(Buffer.from('123456789')), 0xae8b14860a799888n);
});
