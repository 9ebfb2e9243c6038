/** @jest-environment jsdom */

import './imported.mjs'
