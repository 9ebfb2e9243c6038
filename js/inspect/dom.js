// Elements, made and changed without markup: texts come from other pages.

/** Makes an element; `is` has properties, attributes with a dash or in lower case, and `on` listeners. */
export function element(tag, { on, text, ...is } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(is)) {
    if (value === false || value === undefined) continue;
    if (name in made && typeof value !== 'string') made[name] = value;
    else made.setAttribute(name === 'className' ? 'class' : name, value === true ? '' : value);
  }
  for (const [type, listener] of Object.entries(on ?? {})) made.addEventListener(type, listener);
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter(child => child !== undefined));
  return made;
}

/** Changes a text only where it differs: a screen reader would say it again. */
export function setText(node, text) {
  if (node.textContent !== `${text}`) node.textContent = text;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
