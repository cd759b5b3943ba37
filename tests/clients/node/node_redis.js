// node-redis: commands, transactions, a blocking pop on a connection of its own, pub/sub. Argument: protocol version.
'use strict';

const { createClient } = require('redis');
const { Ledger, going, looped, patiently, port } = require('./common');

const RESP = Number(process.argv[2]);
const name = `node-redis-${RESP}`;

async function main() {
  const ledger = new Ledger(`node-redis RESP${RESP}`, 5);
  const connect = async () => {
    const client = createClient({ url: `redis://127.0.0.1:${port}`, RESP });
    // The library reconnects by itself; the command that was cut is reported by its own promise.
    client.on('error', () => {});
    await client.connect();
    return client;
  };
  const clients = await Promise.all([connect(), connect(), connect(), connect(), connect()]);
  const [main, second, subscriber, publisher, blocked] = clients;
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
    looped(ledger, async (n) => {
      await publisher.lPush(`${name}:queue`, `q${n}`);
      ledger.done(`q${n}`);
    }),
    looped(ledger, async () => {
      if (await blocked.blMove(`${name}:queue`, `${name}:ledger`, 'RIGHT', 'LEFT', 1)) ledger.done();
    }),
  ]);
  const all = async () => [...(await main.lRange(`${name}:ledger`, 0, -1)), ...(await main.lRange(`${name}:queue`, 0, -1))];
  ledger.check(await patiently(all));
  const ordered = heard.every((n, i) => i === 0 || n > heard[i - 1]);
  if (!ordered) ledger.failed(new Error('messages out of order or twice'));
  ledger.report(`pipelines, transactions, BLMOVE, pub/sub ${heard.length} of ${said}`, { heard: heard.length, said });
}

main();
