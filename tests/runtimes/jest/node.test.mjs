/** @jest-environment node */

import './imported.mjs'
