/** The page's editor: CodeMirror in the site's colours, with errors at their lines. */
import {
  autocompletion, bracketMatching, closeBrackets, closeBracketsKeymap, Compartment, completionKeymap, defaultKeymap, drawSelection,
  EditorState, EditorView, highlightActiveLine, HighlightStyle, highlightSelectionMatches, history, historyKeymap, indentOnInput,
  indentUnit, indentWithTab, javascript, keymap, lineNumbers, lintGutter, localCompletionSource, Prec, searchKeymap, setDiagnostics,
  syntaxHighlighting, tags, unifiedMergeView,
} from '../pkg/bundles/codemirror.js';

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: 'var(--code-keyword)' },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: 'var(--code-string)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--code-number)' },
  { tag: [tags.comment], color: 'var(--muted)', fontStyle: 'italic' },
  { tag: [tags.definition(tags.variableName), tags.function(tags.variableName)], color: 'var(--code-name)' },
  { tag: [tags.self], color: 'var(--code-keyword)' },
]);

const look = EditorView.theme({
  '&': { height: '100%', fontSize: '13.5px', backgroundColor: 'transparent', color: 'var(--ink)' },
  '&.cm-focused': { outline: '2px solid var(--accent)', outlineOffset: '-2px' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.55' },
  '.cm-content': { padding: '10px 0', caretColor: 'var(--ink)' },
  '.cm-cursor': { borderLeftColor: 'var(--ink)' },
  '.cm-gutters': { backgroundColor: 'transparent', color: 'var(--muted)', border: '0' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'color-mix(in srgb, var(--sunken) 60%, transparent)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { background: 'var(--code-selection)' },
  '.cm-selectionMatch': { backgroundColor: 'var(--code-match)' },
  '.cm-matchingBracket, &.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--code-match)', outline: '1px solid var(--edge)' },
  '.cm-panels': { backgroundColor: 'var(--surface)', color: 'var(--ink)' },
  '.cm-tooltip': { backgroundColor: 'var(--surface)', color: 'var(--ink)', border: '1px solid var(--edge)', borderRadius: '8px' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent)', color: 'var(--on-accent)' },
  '.cm-diagnostic': { padding: '6px 10px', fontFamily: 'inherit' },
  '.cm-diagnostic-error': { borderLeft: '4px solid var(--bad)' },
  '.cm-lint-marker': { width: '12px', height: '12px' },
  '.cm-collapsedLines': { background: 'var(--sunken)', color: 'var(--muted)' },
  '.cm-collapsedLines:before, .cm-collapsedLines:after': { content: '""' },
  '.cm-changedLine, .cm-insertedLine': { backgroundColor: 'color-mix(in srgb, var(--good) 14%, transparent) !important' },
  '.cm-deletedChunk': { backgroundColor: 'color-mix(in srgb, var(--bad) 12%, transparent) !important', paddingLeft: '6px' },
  '.cm-changedText': { background: 'color-mix(in srgb, var(--good) 34%, transparent) !important' },
  '.cm-deletedChunk .cm-deletedText': { background: 'color-mix(in srgb, var(--bad) 30%, transparent) !important' },
});

/** The words that instructions find beside the language's own. */
const WORDS = [
  ['global', 'variable', 'what instructions keep'], ['console.log', 'function', 'a line of the log'],
  ['this.send', 'method', 'sends the caller a text'], ['this.close', 'method', 'ends the connection'],
  ["this.on('close', ", 'method', 'when the caller goes'], ['this.readyState', 'property', '1: open'],
  ['this.upgradeReq.url', 'property', 'the path it asked for'], ['setTimeout', 'function', 'later'],
  ['setInterval', 'function', 'again and again, every 20 ms at most'], ['clearTimeout', 'function', ''],
  ['crypto.randomUUID', 'function', ''], ['crypto.getRandomValues', 'function', ''], ['structuredClone', 'function', ''],
].map(([label, type, detail]) => ({ label, type, detail }));

const complete = context => {
  const word = context.matchBefore(/[\w.]+/);
  return word || context.explicit ? { from: word?.from ?? context.pos, options: WORDS, validFor: /^[\w.]*$/ } : null;
};

/**
 * An editor in `parent`. `keys` are bindings `{key, run}` of the page's; `changed` is called when somebody edits.
 * Tab indents; Escape, then Tab leaves the editor.
 */
export function createEditor(parent, { label, text = '', keys = [], changed, gutter = true }) {
  const diff = new Compartment();
  const writable = new Compartment();
  const extensions = [
    // Also where Escape closes something else as well: the library's own binding then never comes to its turn.
    Prec.highest(keymap.of([{ key: 'Escape', run: view => (view.setTabFocusMode(2000), false) }])),
    Prec.highest(keymap.of(keys.map(({ key, run }) => ({ key, preventDefault: true, run: view => (run(view), true) })))),
    gutter ? [lineNumbers(), highlightActiveLine(), lintGutter()] : [],
    history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(), highlightSelectionMatches(),
    autocompletion({ override: [complete, localCompletionSource], activateOnTyping: true }),
    keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, indentWithTab]),
    gutter ? [] : EditorView.theme({ '.cm-line': { padding: '0 14px' } }),
    javascript(), syntaxHighlighting(colours), indentUnit.of('  '), EditorState.tabSize.of(2), look,
    diff.of([]), writable.of([]),
    EditorView.contentAttributes.of({ 'aria-label': label, tabindex: '0', spellcheck: 'false', autocapitalize: 'off' }),
    EditorView.updateListener.of(update => update.docChanged && changed?.(update)),
  ];
  const view = new EditorView({ parent, state: EditorState.create({ doc: text, extensions }) });
  return {
    view,
    get text() {
      return view.state.doc.toString();
    },
    set text(text) {
      if (text === this.text) return;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
    },
    /** Marks one place: lines and columns count from 1. */
    mark({ line, column = 1 }, message) {
      const { doc } = view.state;
      const at = doc.line(Math.max(1, Math.min(line, doc.lines)));
      const from = Math.min(at.from + Math.max(0, column - 1), at.to);
      const word = /^[\w$.]+/.exec(doc.sliceString(from, at.to))?.[0].length ?? 1;
      const range = from < at.to ? { from, to: Math.min(from + word, at.to) } : { from: at.from, to: at.to };
      view.dispatch(setDiagnostics(view.state, [{ ...range, severity: 'error', message }]));
      view.dispatch({ effects: EditorView.scrollIntoView(range.from, { y: 'nearest' }) });
    },
    unmark() {
      view.dispatch(setDiagnostics(view.state, []));
    },
    /** Shows what differs from another text; undefined: nothing of the kind. */
    compare(original) {
      const shown = original === undefined ? [] : unifiedMergeView({ original, mergeControls: false, gutter: false, collapseUnchanged: { margin: 3, minSize: 8 } });
      view.dispatch({ effects: diff.reconfigure(shown) });
    },
    set isReadOnly(isReadOnly) {
      view.dispatch({ effects: writable.reconfigure(isReadOnly ? [EditorState.readOnly.of(true)] : []) });
    },
  };
}
