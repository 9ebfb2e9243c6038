// The tabs of `npm run dev`.

import open from 'open'

/** Opens the page in two tabs: the first serves, the second connects to it. With BROWSER=none it only says where they are. */
export async function openTabs(page) {
  const tabs = [page, `${page}?guest`]
  console.log(`\n  this tab serves: ${tabs[0]}\n  this tab connects: ${tabs[1]}\n`)
  if (process.env.BROWSER === 'none') return
  for (const tab of tabs) {
    const program = await open(tab).catch(error => console.log(`  no browser can be opened (${error.message}): open them yourself`))
    program?.on('error', () => console.log('  no browser can be opened: open them yourself'))
  }
}
