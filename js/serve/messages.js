// Requests and responses that keep all their headers: the platform's drop those that a page must not send or see on the web.

/**
 * A request that came through a tunnel. It is a `Request` with the headers that were sent: `Cookie`, `Host` and `Origin`
 * too, which the platform's drops. Its body is read from the socket while the handler reads it.
 */
export class ServedRequest extends Request {
  #headers;
  #body;

  constructor(url, { method, headers, body, signal }) {
    super(url, { method, signal });
    this.#headers = headers;
    const type = headers.get('content-type');
    // A request with a stream for its body is not to be had in all browsers; a response is.
    this.#body = new Response(body, type === null ? {} : { headers: { 'content-type': type } });
  }

  get headers() {
    return this.#headers;
  }

  get body() {
    return this.#body.body;
  }

  get bodyUsed() {
    return this.#body.bodyUsed;
  }

  arrayBuffer() {
    return this.#body.arrayBuffer();
  }

  blob() {
    return this.#body.blob();
  }

  bytes() {
    return this.#body.arrayBuffer().then(buffer => new Uint8Array(buffer));
  }

  formData() {
    return this.#body.formData();
  }

  json() {
    return this.#body.json();
  }

  text() {
    return this.#body.text();
  }

  clone() {
    const { url, method, signal } = this;
    const copy = new ServedRequest(url, { method, headers: new Headers(this.#headers), body: null, signal });
    copy.#body = this.#body.clone();
    return copy;
  }
}

/** A response that keeps `Set-Cookie`, which the platform's drops. */
export class ServedResponse extends Response {
  #headers;

  constructor(body = null, init = {}) {
    super(body, init);
    this.#headers = new Headers(init.headers);
    // The platform adds the type of the body.
    for (const [name, value] of super.headers) if (!this.#headers.has(name)) this.#headers.set(name, value);
  }

  get headers() {
    return this.#headers;
  }

  clone() {
    const { status, statusText } = this;
    const body = super.clone().body;
    return new ServedResponse(body, { status, statusText, headers: new Headers(this.#headers) });
  }
}
