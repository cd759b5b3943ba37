// What the Node clients share: where redweir is, how long to go on, and the line that the driver reads.
'use strict';

const port = Number(process.env.REDWEIR_PORT);
const until = Date.now() + Number(process.env.REDWEIR_SECONDS) * 1000;
const going = () => Date.now() < until;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

class Ledger {
  constructor(client, connections) {
    Object.assign(this, { client, connections, operations: 0, errors: [], errorTimes: [], acknowledged: [], lost: 0, twice: 0 });
  }
  done(entry, operations = 1) {
    this.operations += operations;
    if (entry !== undefined) this.acknowledged.push(entry);
  }
  failed(error) {
    this.errors.push(String(error));
    this.errorTimes.push(Date.now() / 1000);
  }
  check(there) {
    const unique = new Set(there);
    const gone = this.acknowledged.filter((entry) => !unique.has(entry));
    this.lost += gone.length;
    if (gone.length > 0) this.errors.unshift(`of ${this.acknowledged.length} acknowledged are gone: ${gone.slice(0, 8)}`);
    this.twice += there.length - unique.size;
  }
  report(did, more = {}) {
    const { client, operations, errors, lost, twice, connections } = this;
    const seen = { errors: errors.length, first_errors: errors.slice(0, 5), error_times: this.errorTimes };
    const line = { client, did, operations, lost, twice, connections, ...seen, ...more };
    process.stdout.write(JSON.stringify(line) + '\n', () => process.exit(0));
  }
}

// Calls act(n) until the time is up; an error is counted and gone on from.
async function looped(ledger, act, pause = 3) {
  for (let n = 1; going(); n++) {
    try {
      await act(n);
    } catch (error) {
      ledger.failed(error);
    }
    await sleep(pause);
  }
}

// For the check in the end: the set may still be electing, and a read may come from a replica that is a moment behind.
async function patiently(act) {
  await sleep(1000);
  for (let attempt = 0; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (attempt > 100) throw error;
      await sleep(200);
    }
  }
}

module.exports = { Ledger, going, looped, patiently, port, sleep };
