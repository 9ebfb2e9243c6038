/** The editor: CodeMirror, bound to a text of the document, with the cursors of the others. */
import {
  basicSetup, css, EditorState, EditorView, html, HighlightStyle, indentWithTab, javascript, keymap, markdown, Prec, syntaxHighlighting,
  tags, Y, yCollab, yUndoManagerKeymap,
} from '../pkg/bundles/pad.js';

const LANGUAGES = { css, html, js: javascript, md: markdown, mjs: javascript, svg: html };

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.tagName, tags.operatorKeyword], color: 'var(--code-keyword)' },
  { tag: [tags.string, tags.attributeValue, tags.regexp], color: 'var(--code-string)' },
  { tag: [tags.number, tags.bool, tags.unit, tags.color], color: 'var(--code-number)' },
  { tag: [tags.propertyName, tags.attributeName], color: 'var(--code-name)' },
  { tag: [tags.comment, tags.meta], color: 'var(--muted)' },
  { tag: tags.heading, fontWeight: '600' },
]);

const look = EditorView.theme({
  '&': { height: '100%', backgroundColor: 'transparent', color: 'var(--ink)' },
  '&.cm-focused': { outline: '2px solid var(--accent)', outlineOffset: '-2px' },
  '.cm-scroller': { fontFamily: 'var(--mono)', fontSize: '14px', lineHeight: '1.6' },
  '.cm-content': { caretColor: 'var(--ink)' },
  '.cm-cursor': { borderLeftColor: 'var(--ink)' },
  '.cm-gutters': { backgroundColor: 'transparent', color: 'var(--muted)', border: '0' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'var(--code-line)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { background: 'var(--code-selection)' },
  '.cm-selectionMatch': { backgroundColor: 'var(--code-selection)' },
  '.cm-panels, .cm-tooltip': { backgroundColor: 'var(--surface)', color: 'var(--ink)', borderColor: 'var(--line)' },
  '.cm-ySelectionInfo': { opacity: '1', padding: '1px 5px', fontFamily: 'inherit', fontSize: '12px', borderRadius: '4px 4px 4px 0', top: '-1.35em' },
  '.cm-line:first-child .cm-ySelectionInfo': { top: '1.3em' },
});

export class Editor {
  #parent;
  #awareness;
  #view;
  #undo = new Map();

  constructor(parent, awareness) {
    this.#parent = parent;
    this.#awareness = awareness;
  }

  /** Shows a file `{id, name, text}`; undefined shows none. */
  open(file) {
    this.#view?.destroy();
    this.#view = undefined;
    if (!file) return;
    if (!this.#undo.has(file.id)) this.#undo.set(file.id, new Y.UndoManager(file.text));
    const language = LANGUAGES[file.name.split('.').at(-1)];
    this.#view = new EditorView({
      parent: this.#parent,
      state: EditorState.create({
        doc: file.text.toString(),
        extensions: [
          // Escape, then Tab leaves the editor, also where Escape closes a list of completions as well.
          Prec.highest(keymap.of([{ key: 'Escape', run: view => (view.setTabFocusMode(2000), false) }])),
          keymap.of([...yUndoManagerKeymap, indentWithTab]),
          basicSetup,
          language ? language() : [],
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ 'aria-label': file.name }),
          EditorState.tabSize.of(2),
          look,
          syntaxHighlighting(colours),
          yCollab(file.text, this.#awareness, { undoManager: this.#undo.get(file.id) }),
        ],
      }),
    });
  }

  focus() {
    this.#view?.focus();
  }

  /** Scrolls to where somebody else is. */
  reveal(cursor, doc) {
    const head = cursor && Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(cursor.head), doc);
    if (head && this.#view && head.index <= this.#view.state.doc.length) {
      this.#view.dispatch({ effects: EditorView.scrollIntoView(head.index, { y: 'center' }) });
    }
  }
}
