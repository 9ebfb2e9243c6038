/** Small helpers for making elements. Text is always set as text, never as HTML. */

export const $ = id => document.getElementById(id);

/**
 * `h("p.hint", {title: "…"}, "text", child)`: an element with classes, attributes or `on…` listeners, and
 * children.
 */
export function h(selector, attributes = {}, ...children) {
  const [name, ...classes] = selector.split('.');
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

/** An icon of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(svg.namespaceURI, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Sets text only when it differs, so that live regions are not read out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
