// Opens the tabs that measure, a fresh pair each time, and reports what they found. It is idle while they work.

const { relay, against, rounds } = Object.fromEntries(new URLSearchParams(location.search));
const channel = new BroadcastChannel('bench');
const print = text => fetch('/', { method: 'POST', body: text });

/** Relays of the contestants. Rounds begin with each in turn. */
const relays = { tunnel: relay, forwarder: '', ...(against && { against }) };
const contestants = Object.keys(relays);

let tabs = 0;

/** Opens a tab in a process and a window of its own; resolves to what it has to say. */
function open(parameters) {
  const name = `${++tabs}`;
  const said = new Promise((resolve, reject) => {
    const listen = ({ data }) => {
      if (data.name !== name) return;
      channel.removeEventListener('message', listen);
      if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    channel.addEventListener('message', listen);
  });
  window.open(`tab.html?${new URLSearchParams({ ...parameters, relay: relays[parameters.via], name })}`, '', 'noopener,popup,width=600,height=400');
  return said;
}

async function measure(via) {
  const server = await open({ via, role: 'server' });
  const client = { via, role: 'client', serverId: server.serverId ?? '' };
  const { result } = await open(client);
  const { result: atOnce } = await open({ ...client, at: 'once' });
  channel.postMessage({ close: server.name });
  return { ...result, ...atOnce };
}

async function run() {
  if (!crossOriginIsolated) throw new Error('the page is not isolated: its clock would be too coarse');
  const report = [];
  for (let round = 0; round < rounds; round++) {
    const result = {};
    for (let turn = 0; turn < contestants.length; turn++) {
      const via = contestants[(round + turn) % contestants.length];
      await print(`progress round ${round + 1} of ${rounds}: ${via}`);
      result[via] = await measure(via);
    }
    report.push(result);
  }
  await print(`report ${JSON.stringify(report)}`);
}

run().catch(error => print(`error ${error.message}`));
