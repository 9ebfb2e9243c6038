/** @jest-environment node */

require('./required.cjs')
