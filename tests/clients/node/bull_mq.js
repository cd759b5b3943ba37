// BullMQ: a queue and a worker; every job that was accepted is done, and once.
'use strict';

const { Queue, Worker } = require('bullmq');
const Redis = require('ioredis');
const { Ledger, going, looped, port, sleep } = require('./common');

async function main() {
  const ledger = new Ledger('BullMQ', 5);
  const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
  const note = new Redis(port, '127.0.0.1');
  note.on('error', () => {});
  const queue = new Queue('work', { connection });
  queue.on('error', () => {});
  const done = [];
  let failed = 0;
  const worker = new Worker('work', async (job) => { done.push(job.id); await note.hincrby('bullmq:done', job.id, 1); }, { connection, concurrency: 4 });
  worker.on('error', () => {});
  worker.on('failed', (job, error) => { failed++; ledger.failed(error); });
  await looped(ledger, async (n) => {
    // With an id of our own the library's own retry of an unanswered add makes no second job.
    const job = await queue.add('job', { n }, { jobId: `job-${n}` });
    ledger.done(job.id);
  }, 8);
  const until = Date.now() + 25000;
  while (Date.now() < until && new Set(done).size < ledger.acknowledged.length) await sleep(200);
  ledger.check(done);
  ledger.report(`${ledger.acknowledged.length} jobs, ${new Set(done).size} done, ${failed} failed`);
}

main();
