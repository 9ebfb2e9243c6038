/** Before the page is shown: one that has a credential, in its address or kept by this tab, connects by itself and does not ask for it. */
const kept = Object.keys(sessionStorage).some(key => key.startsWith('live credential '));
document.documentElement.toggleAttribute('data-knows', kept || location.hash.includes('credential='));
