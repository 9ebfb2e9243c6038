/** @jest-environment jsdom */

require('./required.cjs')
