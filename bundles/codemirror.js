// The editor of the pages: what they use of CodeMirror 6. A page imports it as `../pkg/bundles/codemirror.js`.

export { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
export { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
export { javascript, localCompletionSource } from '@codemirror/lang-javascript';
export { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
export { lintGutter, setDiagnostics } from '@codemirror/lint';
export { unifiedMergeView } from '@codemirror/merge';
export { highlightSelectionMatches, searchKeymap } from '@codemirror/search';
export { Compartment, EditorSelection, EditorState, Prec } from '@codemirror/state';
export { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from '@codemirror/view';
export { tags } from '@lezer/highlight';
