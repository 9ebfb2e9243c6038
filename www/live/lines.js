/** A list of lines that grows at its end, and stays there unless somebody has scrolled away. */

/** The number of lines that are kept. */
const KEPT = 400;

export class Lines {
  #list;

  constructor(list, empty) {
    this.#list = list;
    list.dataset.empty = empty;
  }

  add(text, data) {
    const list = this.#list;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    const item = Object.assign(document.createElement('div'), { textContent: text });
    Object.assign(item.dataset, data);
    list.append(item);
    if (list.children.length > KEPT) list.firstElementChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  clear() {
    this.#list.replaceChildren();
  }
}
