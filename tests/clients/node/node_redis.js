// node-redis: commands, transactions, a blocking pop on a connection of its own, pub/sub. Argument: protocol version.
'use strict';

const { createClient } = require('redis');
const { Ledger, going, looped, patiently, port } = require('./common');

const RESP = Number(process.argv[2]);
const name = `node-redis-${RESP}`;

async function main() {
  const ledger = new Ledger(`node-redis RESP${RESP}`, 4);
  const connect = async () => {
    const client = createClient({ url: `redis://127.0.0.1:${port}`, RESP });
    // The library reconnects by itself; the command that was cut is reported by its own promise.
    client.on('error', () => {});
    await client.connect();
    return client;
  };
  const [main, second, subscriber, publisher] = await Promise.all([connect(), connect(), connect(), connect()]);
  const heard = [];
  let said = 0;
  await subscriber.subscribe(`${name}:news`, (message) => heard.push(Number(message)));
  await Promise.all([
    looped(ledger, async (n) => {
      // Sent in one write by the library.
      const [, own] = await Promise.all([main.set(`${name}:own`, n), main.get(`${name}:own`), main.rPush(`${name}:ledger`, `p${n}`)]);
      ledger.done(`p${n}`, 3);
      if (Number(own) !== n) throw new Error(`wrote ${n}, read ${own}`);
    }),
    looped(ledger, async (n) => {
      const [, counted, back] = await second.multi().rPush(`${name}:ledger`, `t${n}`).incr(`${name}:c`).get(`${name}:c`).exec();
      ledger.done(`t${n}`, 5);
      if (Number(back) !== counted) throw new Error(`INCR said ${counted}, GET in the same transaction ${back}`);
    }),
    looped(ledger, async (n) => {
      await publisher.publish(`${name}:news`, String(n));
      said++;
      ledger.done();
    }),
  ]);
  ledger.check(await patiently(() => main.lRange(`${name}:ledger`, 0, -1)));
  const ordered = heard.every((n, i) => i === 0 || n > heard[i - 1]);
  if (!ordered) ledger.failed(new Error('messages out of order or twice'));
  ledger.report(`pipelines, transactions, pub/sub ${heard.length} of ${said}`);
}

main();
