/** Registers the service worker that fetches the site through the tunnel, and goes there. */
const $ = id => document.getElementById(id);
const relay = new URLSearchParams(location.search).get('relay') ?? location.origin.replace(/^http/, 'ws');
const serverId = location.hash.slice(1);

async function start() {
  if (!/^[a-z2-7]{56}$/.test(serverId)) return say('This link is not complete: a part of it is missing at its end.');
  if (!navigator.serviceWorker) return say('This browser allows no service workers here: they need https, or this machine.');
  try {
    const worker = new URL('worker.js', location.href);
    worker.searchParams.set('relay', relay);
    const registration = await navigator.serviceWorker.register(worker, { scope: 'site/', type: 'module' });
    await active(registration);
    $('go').disabled = false;
    $('go').addEventListener('click', () => location.assign(`site/${serverId}/`));
  } catch (error) {
    console.error(error);
    say(`The site cannot be opened here: ${error.message}`);
  }
}

/** Waits until the newest worker of the registration is the active one. */
function active({ installing, waiting, active: current }) {
  const worker = installing ?? waiting ?? current;
  if (worker.state === 'activated') return undefined;
  return new Promise((resolve, reject) => {
    worker.addEventListener('statechange', () => {
      if (worker.state === 'activated') resolve();
      if (worker.state === 'redundant') reject(new Error('its service worker did not start'));
    });
  });
}

function say(text) {
  $('problem').textContent = text;
}

start();
