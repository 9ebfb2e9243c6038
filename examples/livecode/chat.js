// A chat room with presence: who is there, who comes and goes, and the words of each.
//
// Somebody with the relay's credential adds the instructions, once:
//
//   import chat from './chat.js'
//   const relay = await NodeJSLivecodingClient.configureServerAt(relayUrl, credential)
//   for (const [name, source] of Object.entries(chat)) await relay.addInstruction(name, source)
//
// Everybody else needs no credential:
//
//   const peer = await NodeJSLivecodingClient.connectTo(relayUrl)
//   peer.onmessage = ({ data }) => show(JSON.parse(data))  // {joined, people}, {left, people}, or {from, text}
//   const { returned } = await peer.invoke('join room', 'tea', 'Ana')
//   const { people, recent } = JSON.parse(returned)
//   await peer.invoke('say', 'hello')
//
// A peer is in one room at a time. Its place is free when its connection ends. Names are as good as who gives them: nothing proves them.

export const title = 'Chat room with presence';

export default {
  'join room': function joinRoom(room, name) {
    const chat = (global.chat ??= { rooms: new Map(), seats: new Map(), peers: new WeakMap() });

    // Functions of all three instructions. They are made anew here, so that a change of them reaches rooms that are open.
    chat.tell = (people, message) => {
      const text = JSON.stringify(message);
      for (const seat of people) if (seat.socket.readyState === 1) seat.socket.send(text);
    };
    chat.names = people => Array.from(people, seat => seat.name);
    chat.leave = socket => {
      const seat = chat.seats.get(socket);
      if (!seat) return;
      const { people } = seat.room;
      chat.seats.delete(socket);
      people.delete(seat);
      if (people.size === 0) chat.rooms.delete(seat.room.name);
      chat.tell(people, { left: seat.name, people: chat.names(people) });
    };
    // Five things a second for each connection, ten at once. Leaving and joining again is no way around it.
    chat.slow = socket => {
      let peer = chat.peers.get(socket);
      if (!peer) {
        chat.peers.set(socket, (peer = { busyUntil: 0 }));
        socket.on('close', () => chat.leave(socket));
      }
      const from = Math.max(peer.busyUntil, Date.now());
      if (from > Date.now() + 1800) throw new RangeError('too fast: five times a second at most');
      peer.busyUntil = from + 200;
    };

    const isName = text => typeof text === 'string' && text.trim() === text && text.length > 0 && text.length <= 40;
    if (!isName(room) || !isName(name)) throw new TypeError('a room and a name have 1 to 40 characters, without spaces around them');
    chat.slow(this);
    let place = chat.rooms.get(room);
    if (!place && chat.rooms.size >= 100) throw new RangeError('there are 100 rooms already');
    const seats = Array.from(place ? place.people : []).filter(seat => seat.socket !== this);
    if (seats.length >= 50) throw new RangeError('50 people are in this room already');
    if (seats.some(seat => seat.name === name)) throw new RangeError(`somebody in this room is called ${name} already`);
    chat.leave(this);
    place = chat.rooms.get(room) ?? { name: room, people: new Set(), recent: [] };
    chat.rooms.set(room, place);
    const seat = { socket: this, room: place, name };
    const others = Array.from(place.people);
    place.people.add(seat);
    chat.seats.set(this, seat);
    chat.tell(others, { joined: name, people: chat.names(place.people) });
    return JSON.stringify({ room, people: chat.names(place.people), recent: place.recent });
  },

  'say': function say(text) {
    const seat = global.chat && chat.seats.get(this);
    if (!seat) throw new Error("join a room first: 'join room'");
    if (typeof text !== 'string' || text === '' || text.length > 1000) throw new TypeError('a message has 1 to 1000 characters');
    chat.slow(this);
    const message = { from: seat.name, text };
    seat.room.recent = [...seat.room.recent.slice(-19), message];
    chat.tell(seat.room.people, message);
    return seat.room.people.size;
  },

  'leave room': function leaveRoom() {
    if (global.chat) chat.leave(this);
  },
};
