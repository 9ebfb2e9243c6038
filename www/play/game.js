/** The rules, without any network: players move over a board and collect sparks. The host's page runs it, and nobody else does. */

/** The time for which the place of a player who has gone is kept, in milliseconds. */
const KEPT_FOR = 20_000;

export const BOARD = { width: 1280, height: 720 };
export const TICKS_A_SECOND = 30;
export const MOST_PLAYERS = 8;

const SPEED = 360;
const RADIUS = 26;
const SPARKS = 6;

const within = (value, most) => Math.min(most - RADIUS, Math.max(RADIUS, value));

export class Game {
  /** All of the game, as JSON has it: what a board that is reloaded parks. */
  all;

  constructor(parked) {
    this.all = parked ?? { players: [], sparks: Array.from({ length: SPARKS }, () => this.#place()), next: 1 };
    // They come back, or not.
    for (const player of this.all.players) this.leave(player);
  }

  #place() {
    return { x: within(Math.random() * BOARD.width, BOARD.width), y: within(Math.random() * BOARD.height, BOARD.height) };
  }

  find(who) {
    return this.all.players.find(player => player.who === who);
  }

  /** Nobody but a player knows its `who`: with that it is the same one when it comes again. */
  join(who) {
    let player = this.find(who);
    if (!player) {
      const id = this.all.next++;
      player = { who, id, ...this.#place(), dx: 0, dy: 0, score: 0, hue: (id * 137) % 360 };
      this.all.players.push(player);
    }
    player.goneAt = null;
    return player;
  }

  leave(player) {
    player.goneAt ??= Date.now();
    player.dx = player.dy = 0;
  }

  /** The place where somebody wants to go; anything but two finite numbers is ignored. */
  steer(player, move) {
    const [dx, dy] = Array.isArray(move) ? move : [];
    if (!Number.isFinite(dx) || !Number.isFinite(dy)) return;
    const length = Math.max(1, Math.hypot(dx, dy));
    player.dx = dx / length;
    player.dy = dy / length;
  }

  tick(seconds = 1 / TICKS_A_SECOND) {
    const { players, sparks } = this.all;
    for (const player of [...players]) {
      if (player.goneAt && Date.now() - player.goneAt > KEPT_FOR) players.splice(players.indexOf(player), 1);
      player.x = within(player.x + player.dx * SPEED * seconds, BOARD.width);
      player.y = within(player.y + player.dy * SPEED * seconds, BOARD.height);
      sparks.forEach((spark, n) => {
        if (player.goneAt || Math.hypot(spark.x - player.x, spark.y - player.y) > RADIUS * 1.6) return;
        player.score++;
        sparks[n] = this.#place();
      });
    }
  }

  /** The view of everybody: whole numbers, as they are sent thirty times a second. */
  state(roundTripOf = () => null) {
    const { players, sparks } = this.all;
    const seen = ({ id, x, y, score, hue, goneAt }) => [id, Math.round(x), Math.round(y), score, hue, goneAt ? 'away' : roundTripOf(id)];
    return { players: players.map(seen), sparks: sparks.map(({ x, y }) => [Math.round(x), Math.round(y)]) };
  }
}

/** Draws a state. */
export function draw(canvas, { players, sparks }) {
  const context = canvas.getContext('2d');
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, BOARD.width, BOARD.height);
  context.fillStyle = style.getPropertyValue('--sunken');
  context.beginPath();
  context.roundRect(0, 0, BOARD.width, BOARD.height, 28);
  context.fill();
  for (const [x, y] of sparks) {
    context.fillStyle = style.getPropertyValue('--warn');
    context.beginPath();
    context.arc(x, y, 10, 0, 7);
    context.fill();
  }
  for (const [, x, y, score, hue, roundTrip] of players) {
    context.globalAlpha = roundTrip === 'away' ? 0.35 : 1;
    context.fillStyle = `hsl(${hue} 70% 38%)`;
    context.beginPath();
    context.arc(x, y, RADIUS, 0, 7);
    context.fill();
    context.fillStyle = '#fff';
    context.font = '600 24px system-ui, sans-serif';
    context.textAlign = 'center';
    context.fillText(`${score}`, x, y + 9);
    context.globalAlpha = 1;
  }
}

/** Shows who plays, with points and round trip. */
export function list(element, { players }) {
  const ids = players.map(([id]) => `${id}`);
  for (const line of [...element.children]) if (!ids.includes(line.dataset.player)) line.remove();
  for (const [id, , , score, hue, roundTrip] of players) {
    let line = element.querySelector(`[data-player="${id}"]`);
    if (!line) {
      line = document.createElement('li');
      line.dataset.player = id;
      line.style.setProperty('--hue', hue);
      line.append(document.createElement('i'), `Player ${id}`, document.createElement('b'), document.createElement('small'));
      element.append(line);
    }
    line.dataset.score = score;
    line.querySelector('b').textContent = score;
    line.querySelector('small').textContent = Number.isFinite(roundTrip) ? `${roundTrip} ms` : (roundTrip ?? '');
  }
}
