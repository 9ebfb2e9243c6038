/** A link with a server's ID leads to a player's page. */
document.documentElement.dataset.role = location.hash.length > 1 ? 'player' : 'host';
