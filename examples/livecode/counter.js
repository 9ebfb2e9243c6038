// One number that everybody sees and everybody changes.
//
//   import counter from './counter.js'
//   const relay = await NodeJSLivecodingClient.configureServerAt(relayUrl, credential)
//   for (const [name, source] of Object.entries(counter)) await relay.addInstruction(name, source)
//
// Everybody:
//
//   const peer = await NodeJSLivecodingClient.connectTo(relayUrl)
//   peer.onmessage = ({ data }) => show(JSON.parse(data).count)
//   await peer.invoke('follow count')
//   await peer.invoke('count', 1)
//
// Calls run one after the other, so that no change is lost. Followers are told 20 times a second at most, however often it changes.

export const title = 'Shared counter';

export default {
  'count': function count(by) {
    const counter = (global.counter ??= { value: 0, followers: new Set() });
    if (!Number.isInteger(by) || Math.abs(by) > 1000) throw new TypeError('count by a whole number from -1000 to 1000');
    counter.value += by;
    counter.timer ||= setTimeout(() => {
      counter.timer = 0;
      const text = JSON.stringify({ count: counter.value });
      for (const socket of counter.followers) if (socket.readyState === 1) socket.send(text);
    }, 50);
    return counter.value;
  },

  'follow count': function followCount() {
    const counter = (global.counter ??= { value: 0, followers: new Set() });
    if (!counter.followers.has(this)) {
      if (counter.followers.size >= 500) throw new RangeError('500 follow the count already');
      counter.followers.add(this);
      this.on('close', () => counter.followers.delete(this));
    }
    return counter.value;
  },
};
