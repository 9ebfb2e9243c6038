/** Everything about the room itself: its state, its people, the invitation, and the tabs on small screens. */
import { copy } from './copy.js';
import { $, h, icon, setText } from './dom.js';
import { hueOf } from './format.js';
import { PORTS } from './room.js';
import { toSvg } from './qr.js';

const PHASES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  open: 'Open',
  reconnecting: 'Reconnecting…',
  away: 'Host away',
  closed: 'Closed',
};

/** The words for people by the code of a TunnelError, or by the close code itself. */
const CAUSES = [
  [
    ['server-not-found', 3701],
    'Nobody is hosting this room',
    'The host’s tab may be closed, or the link is not complete.',
  ],
  [['port-closed', 3702], 'There is no room under this link', 'It leads to something else.'],
  [['refused', 3703], 'The host did not let you in', ''],
  [
    ['relay-unreachable', 3712],
    'The relay can’t be reached',
    'Check that you are online. If you are, the relay is not running.',
  ],
  [
    ['peer-reloaded', 3705],
    'The host’s tab was reloaded',
    'Ask for the new link if reconnecting does not help.',
  ],
  [['peer-gone', 3711], 'The host is gone', 'Its tab was closed or has lost its connection.'],
  [['id-taken-over', 3700], 'This room was opened in another tab', ''],
  [['draining', 3708], 'The relay is shutting down', 'Try again in a moment.'],
  [['timeout', 3704, 3709], 'The connection was lost', 'It could not be resumed in time.'],
  [['overflow', 3706], 'Too much was waiting', 'The other side could not take what was sent.'],
  [['bad-link'], 'This link is not complete', 'Ask for it again, or copy all of it.'],
  [[4001], 'You fell too far behind', 'The host closed the connection because messages piled up.'],
  [[4002], 'The host closed the room', 'Ask the host for a new link.'],
  [[4003], 'You are in this room in another tab', 'A tab that was duplicated is the same person.'],
  [
    ['going-away', 1001],
    'The host’s tab was closed or reloaded',
    'The room is back under the same link as soon as the host opens it again.',
  ],
  [[1000], 'The host closed the connection', ''],
];

export function showState({ phase, name, code, left }, isHost) {
  $('status').dataset.phase = phase;
  setText($('status').lastElementChild, PHASES[phase]);
  const closed = phase === 'closed';
  $('closed').hidden = !closed;
  $('away').hidden = phase !== 'away' && phase !== 'reconnecting';
  setText($('away').querySelector('b'), phase === 'away' ? 'The host is away.' : 'The network is away.');
  $('chat-form').hidden = closed;
  $('leave-button').disabled = closed;
  $('chat-send').disabled = phase === 'connecting';
  if (!closed) return;
  // Nobody can follow a link or a QR code any more that leads here.
  $('invite').hidden = true;
  if ($('ask-close').open) $('ask-close').close();
  $('closed').dataset.code = code ?? '';
  const [title, text] = left
    ? [isHost ? 'You closed the room' : 'You left the room', '']
    : explain(name, code);
  const [bold, paragraph] = $('closed').querySelectorAll('b, p');
  bold.textContent = title;
  paragraph.textContent = text;
  setText($('reconnect-button'), isHost ? 'Host a new room' : 'Reconnect');
}

/** A title and a text about what happened, for people who know nothing of codes. */
export function explain(name, code) {
  const cause = CAUSES.find(([keys]) => keys.includes(name) || keys.includes(code));
  return cause
    ? cause.slice(1)
    : ['The connection was lost', 'The host’s tab may be closed, or the network is down.'];
}

/** Says no more about encryption than the sockets themselves do. */
export function showEncryption(all, relayUrl) {
  const sockets = all.filter(socket => socket.readyState === 1);
  const encrypted = sockets.filter(socket => socket.encrypted === true).length;
  let answer = 'unknown';
  if (sockets.length > 0) answer = encrypted === sockets.length ? 'yes' : encrypted > 0 ? 'partly' : 'no';
  const words = {
    yes: 'End-to-end encrypted · through relay ',
    partly: 'Partly end-to-end encrypted · through relay ',
    no: 'Not end-to-end encrypted · through relay ',
    unknown: 'Through relay ',
  };
  $('encryption').dataset.encrypted = answer;
  const text = words[answer] + relayUrl.replace(/^wss?:\/\/|\/$/g, '');
  setText($('encryption').lastElementChild, text);
  $('encryption').title = text;
  const name = { yes: 'lock', partly: 'unlock', no: 'unlock', unknown: 'relay' }[answer];
  $('encryption').querySelector('use').setAttribute('href', `#i-${name}`);
}

/** While our own connection is broken, nobody's ports can be seen. */
export function showPeople(people, me, { phase }) {
  $('peers-title').replaceChildren('People ', h('small', {}, people.length > 0 ? String(people.length) : ''));
  $('peers').replaceChildren(
    ...people.map(({ id, name, host, ports }) => {
      const role = [host && 'host', id === me && 'you'].filter(Boolean).join(', ');
      return h(
        'li',
        {},
        h(`span.avatar.hue-${hueOf(name)}`, { 'aria-hidden': 'true' }, ([...name][0] ?? '?').toUpperCase()),
        h(
          'div.person',
          {},
          h('span.name', { title: name }, name, role ? h('small', {}, ` ${role}`) : null),
          h(
            'span.ports',
            {},
            ...Object.entries(PORTS).map(([purpose, port]) =>
              portChip(port, purpose, phase === 'open' ? ports[port] : phase),
            ),
          ),
        ),
      );
    }),
  );
}

function portChip(port, purpose, state = 'connecting') {
  const visible = h('span', {}, purpose, h('span.unseen', {}, `: ${state}`));
  return h('span.port', { 'data-state': state, title: `Port ${port}, ${purpose}: ${state}` }, visible);
}

export function showInvite(link) {
  const anchor = $('share-link');
  anchor.href = link;
  anchor.title = link;
  anchor.textContent = link.replace(/^https?:\/\//, '');
  try {
    $('qr').replaceChildren(toSvg(link, 'QR code of the link'));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    $('qr').replaceChildren(); // a relay with a very long address: the link itself still works
  }
  const { hostname } = new URL(link);
  const local = hostname === 'localhost' || hostname.startsWith('127.') || hostname === '[::1]';
  $('reach').textContent = local ? `Works on this computer only (${hostname}).` : '';
}

export function setUpCopy() {
  const button = $('copy-button');
  let timer;
  button.addEventListener('click', async () => {
    await copy($('share-link').href);
    button.classList.add('done');
    button.replaceChildren(icon('check'), h('span', { 'aria-live': 'polite' }, 'Copied'));
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.classList.remove('done');
      button.replaceChildren(icon('copy'), h('span', { 'aria-live': 'polite' }, 'Copy'));
    }, 2000);
  });
}

export function openTab(name) {
  document.body.dataset.tab = name;
  for (const button of document.querySelectorAll('.tabs button')) {
    button.setAttribute('aria-current', button.dataset.tab === name);
    if (button.dataset.tab === name) button.querySelector('.badge').hidden = true;
  }
}

/** Counts one more thing that happened in a tab which is not open. */
export function mark(name) {
  if (document.body.dataset.tab === name) return;
  const badge = document.querySelector(`.tabs button[data-tab="${name}"] .badge`);
  badge.textContent = badge.hidden ? '1' : String(Math.min(99, Number(badge.textContent) + 1));
  badge.hidden = false;
}

export function setUpTabs() {
  for (const button of document.querySelectorAll('.tabs button')) {
    button.addEventListener('click', () => openTab(button.dataset.tab));
  }
}
