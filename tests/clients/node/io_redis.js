// ioredis: pipelines, transactions, scripts (defineCommand sends EVALSHA), a blocking pop, pub/sub.
'use strict';

const Redis = require('ioredis');
const { Ledger, going, looped, patiently, port } = require('./common');

const name = 'ioredis';

async function main() {
  const ledger = new Ledger('ioredis', 6);
  const connect = () => {
    // What was cut is not to be sent again by the library: this counts what the proxy does. ioredis then never settles the promise
    // of what was cut; the timeout does.
    const client = new Redis(port, '127.0.0.1', { autoResendUnfulfilledCommands: false, commandTimeout: 6000 });
    client.on('error', () => {});
    client.defineCommand('note', { numberOfKeys: 2, lua: "redis.call('rpush', KEYS[1], ARGV[1]) return redis.call('incr', KEYS[2])" });
    return client;
  };
  const clients = Array.from({ length: 6 }, connect);
  const [plain, unit, script, blocked, subscriber, publisher] = clients;
  const replies = (results) => results.map(([error, reply]) => { if (error) throw error; return reply; });
  const heard = [];
  let said = 0;
  subscriber.on('message', (_, message) => heard.push(Number(message)));
  await subscriber.subscribe(`${name}:news`);
  await Promise.all([
    looped(ledger, async (n) => {
      const [, own] = replies(await plain.pipeline().set(`${name}:own`, n).get(`${name}:own`).rpush(`${name}:ledger`, `p${n}`).exec());
      ledger.done(`p${n}`, 3);
      if (Number(own) !== n) throw new Error(`wrote ${n}, read ${own}`);
    }),
    looped(ledger, async (n) => {
      const [, counted, back] = replies(await unit.multi().rpush(`${name}:ledger`, `t${n}`).incr(`${name}:c`).get(`${name}:c`).exec());
      ledger.done(`t${n}`, 5);
      if (Number(back) !== counted) throw new Error(`INCR said ${counted}, GET in the same transaction ${back}`);
    }),
    looped(ledger, async (n) => {
      await script.note(`${name}:ledger`, `${name}:s`, `s${n}`);
      ledger.done(`s${n}`);
    }),
    looped(ledger, async () => {
      if (await blocked.blmove(`${name}:queue`, `${name}:ledger`, 'RIGHT', 'LEFT', 1)) ledger.done();
    }),
    looped(ledger, async (n) => {
      await publisher.lpush(`${name}:queue`, `q${n}`);
      ledger.done(`q${n}`);
    }),
    looped(ledger, async (n) => {
      await publisher.publish(`${name}:news`, String(n));
      said++;
      ledger.done();
    }),
  ]);
  const all = async () => [...(await plain.lrange(`${name}:ledger`, 0, -1)), ...(await plain.lrange(`${name}:queue`, 0, -1))];
  ledger.check(await patiently(all));
  if (!heard.every((n, i) => i === 0 || n > heard[i - 1])) ledger.failed(new Error('messages out of order or twice'));
  ledger.report(`pipelines, transactions, scripts, BLMOVE, pub/sub ${heard.length} of ${said}`, { heard: heard.length, said });
}

main();
