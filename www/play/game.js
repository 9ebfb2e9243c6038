/** The rules, without any network: players move over a board and collect sparks. The host's page runs it, and nobody else does. */

export const BOARD = { width: 1280, height: 720 };
export const TICKS_A_SECOND = 30;
export const MOST_PLAYERS = 8;

const SPEED = 360;
const RADIUS = 26;
const SPARKS = 6;

const within = (value, most) => Math.min(most - RADIUS, Math.max(RADIUS, value));

export class Game {
  players = new Map();
  sparks = [];
  #next = 1;

  constructor(random = Math.random) {
    this.random = random;
    while (this.sparks.length < SPARKS) this.sparks.push(this.#place());
  }

  #place() {
    return { x: within(this.random() * BOARD.width, BOARD.width), y: within(this.random() * BOARD.height, BOARD.height) };
  }

  join() {
    const id = this.#next++;
    this.players.set(id, { ...this.#place(), dx: 0, dy: 0, score: 0, hue: (id * 137) % 360 });
    return id;
  }

  leave(id) {
    this.players.delete(id);
  }

  /** Where somebody wants to go; anything but two finite numbers is ignored. */
  steer(id, move) {
    const player = this.players.get(id);
    const [dx, dy] = Array.isArray(move) ? move : [];
    if (!player || !Number.isFinite(dx) || !Number.isFinite(dy)) return;
    const length = Math.max(1, Math.hypot(dx, dy));
    player.dx = dx / length;
    player.dy = dy / length;
  }

  tick(seconds = 1 / TICKS_A_SECOND) {
    for (const player of this.players.values()) {
      player.x = within(player.x + player.dx * SPEED * seconds, BOARD.width);
      player.y = within(player.y + player.dy * SPEED * seconds, BOARD.height);
      this.sparks.forEach((spark, n) => {
        if (Math.hypot(spark.x - player.x, spark.y - player.y) > RADIUS * 1.6) return;
        player.score++;
        this.sparks[n] = this.#place();
      });
    }
  }

  /** What everybody sees: whole numbers, as they are sent thirty times a second. */
  state(roundTripOf = () => null) {
    const players = [...this.players].map(([id, { x, y, score, hue }]) => [id, Math.round(x), Math.round(y), score, hue, roundTripOf(id)]);
    return { players, sparks: this.sparks.map(({ x, y }) => [Math.round(x), Math.round(y)]) };
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
  for (const [, x, y, score, hue] of players) {
    context.fillStyle = `hsl(${hue} 70% 38%)`;
    context.beginPath();
    context.arc(x, y, RADIUS, 0, 7);
    context.fill();
    context.fillStyle = '#fff';
    context.font = '600 24px system-ui, sans-serif';
    context.textAlign = 'center';
    context.fillText(`${score}`, x, y + 9);
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
    line.querySelector('small').textContent = roundTrip === null ? '' : `${roundTrip} ms`;
  }
}
