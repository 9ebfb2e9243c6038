// A lobby for games whose host is a tab: open games are listed, and strangers are brought together.
//
//   import lobby from './lobby.js'
//   const relay = await NodeJSLivecodingClient.configureServerAt(relayUrl, credential)
//   for (const [name, source] of Object.entries(lobby)) await relay.addInstruction(name, source)
//   await relay.invoke('open lobby')
//
// A tab that hosts a game, by a server of its own:
//
//   const server = await ForwardingServerWebSocket.newThrough(relayUrl)
//   const peer = await NodeJSLivecodingClient.connectTo(relayUrl)
//   await peer.prove(server)
//   await peer.invoke('host game', 'Sparks', server.serverId, 4)
//
// A tab that looks for one:
//
//   peer.onmessage = ({ data }) => show(JSON.parse(data).games)
//   await peer.invoke('follow games')
//
// Or, without a list, two to eight tabs that want to play the same. Each has a server, and proves that; that of the first is everybody's host:
//
//   peer.onmessage = ({ data }) => { const { match, host, you, players } = JSON.parse(data) }
//   await peer.invoke('find match', 'Sparks', server.serverId, 2)
//
// The lobby lists servers of those only who have proven to hold their keys. Who connects to an ID reaches its holder in any case, or nobody; but
// nobody can list somebody else's server, or one that is none.

export const title = 'Lobby and matchmaking';

export default {
  'open lobby': function openLobby() {
    const lobby = (global.lobby ??= { games: new Map(), followers: new Set(), waiting: new Map(), peers: new WeakSet(), last: 0 });

    lobby.check = (socket, game, serverId, seats) => {
      if (typeof game !== 'string' || game.trim() !== game || game === '' || game.length > 40) throw new TypeError('a game has a name of 1 to 40 characters');
      if (!/^[a-z2-7]{56}$/.test(serverId)) throw new TypeError('a server ID has 56 characters: take `server.serverId`');
      if (!Number.isInteger(seats) || seats < 2 || seats > 8) throw new TypeError('2 to 8 play a game');
      if (!socket.prove(serverId)) throw new Error('who hosts a game shows first that the server is theirs: `await peer.prove(server)`');
    };
    // These functions are made anew each time, and what they keep stays: call it again after a change.
    // A peer that goes takes its game and its place in a queue along.
    lobby.meet = socket => {
      if (lobby.peers.has(socket)) return;
      lobby.peers.add(socket);
      socket.on('close', () => lobby.leave(socket));
    };
    lobby.leave = socket => {
      lobby.followers.delete(socket);
      for (const [key, queue] of lobby.waiting) {
        const left = queue.filter(player => player.socket !== socket);
        if (left.length) lobby.waiting.set(key, left);
        else lobby.waiting.delete(key);
      }
      if (lobby.games.delete(socket)) lobby.tell();
    };
    lobby.list = () => JSON.stringify({ games: Array.from(lobby.games.values()) });
    // Many changes at once are told once.
    lobby.tell = () => {
      if (lobby.timer) return;
      lobby.timer = setTimeout(() => {
        lobby.timer = 0;
        for (const socket of lobby.followers) if (socket.readyState === 1) socket.send(lobby.list());
      }, 100);
    };
  },

  'host game': function hostGame(game, serverId, seats) {
    if (!global.lobby) throw new Error("the lobby is not open: who has the credential calls 'open lobby'");
    lobby.check(this, game, serverId, seats);
    if (!lobby.games.has(this) && lobby.games.size >= 200) throw new RangeError('there are 200 games already');
    lobby.meet(this);
    const id = lobby.games.get(this)?.id ?? ++lobby.last;
    lobby.games.set(this, { id, game, serverId, seats });
    lobby.tell();
    return id;
  },

  'follow games': function followGames() {
    if (!global.lobby) throw new Error("the lobby is not open: who has the credential calls 'open lobby'");
    if (lobby.followers.size >= 500 && !lobby.followers.has(this)) throw new RangeError('500 follow the list already');
    lobby.meet(this);
    lobby.followers.add(this);
    return lobby.list();
  },

  'find match': function findMatch(game, serverId, size) {
    if (!global.lobby) throw new Error("the lobby is not open: who has the credential calls 'open lobby'");
    lobby.check(this, game, serverId, size);
    lobby.meet(this);
    const key = `${size} ${game}`;
    // Somebody who asks again, or for another game, waits for that one only.
    for (const [other, queue] of lobby.waiting) {
      const left = queue.filter(player => player.socket !== this);
      if (left.length) lobby.waiting.set(other, left);
      else lobby.waiting.delete(other);
    }
    const waiting = lobby.waiting.get(key) ?? [];
    const queue = [...waiting, { socket: this, serverId }];
    if (queue.length < size) {
      if (!waiting.length && lobby.waiting.size >= 200) throw new RangeError('people wait for 200 games already');
      lobby.waiting.set(key, queue);
      return queue.length;
    }
    lobby.waiting.delete(key);
    const match = ++lobby.last;
    queue.forEach(({ socket }, you) => socket.send(JSON.stringify({ match, host: queue[0].serverId, you, players: size })));
    return size;
  },

  'leave lobby': function leaveLobby() {
    if (global.lobby) lobby.leave(this);
  },
};
