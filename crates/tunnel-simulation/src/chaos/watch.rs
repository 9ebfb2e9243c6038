//! The story's invariants, which are checked after every step.

use super::*;

impl Run {
    /// Looks at what the applications saw, and checks it.
    pub(super) fn watch(&mut self) -> Result<(), String> {
        for peer in 0..self.world.peers.len() {
            while let Some(event) = self.world.peers[peer].events.pop_front() {
                self.see(peer, event)?;
            }
        }
        self.watch_memory()?;
        if let Some(stats) = self.world.relay_stats() {
            let bound = router::Config::default().total_buffer;
            if stats.buffered > bound {
                return Err(format!("the relay holds {} bytes", stats.buffered));
            }
        }
        Ok(())
    }

    /// Checks that the effects of attackers stay within the budgets.
    fn watch_memory(&self) -> Result<(), String> {
        let (hostiles, deeds) = self.world.attacks();
        if hostiles == 0 {
            return Ok(());
        }
        let lanes = self.pairs.iter().flat_map(|pair| &pair.lanes);
        let queued: usize = lanes.flat_map(|lane| &lane.sent).map(Message::cost).sum();
        let config = Config::default();
        let bound =
            queued as u64 + BUDGET + config.total_buffer + 64 * 1024 * deeds.min(config.max_clients as u64);
        for (number, peer) in self.world.peers.iter().enumerate() {
            let held = peer.endpoint.held();
            if held > bound {
                return Err(format!("peer {number} holds {held} bytes under attack: more than {bound}"));
            }
        }
        Ok(())
    }

    pub(super) fn see(&mut self, peer: usize, event: Event) -> Result<(), String> {
        match event {
            Event::Incoming { socket, incoming } if incoming.path == HOSTILE_PATH => {
                self.attackers.insert((peer, socket));
                self.world.with(peer, |endpoint, now| endpoint.accept(socket, "", now));
            }
            Event::Message { socket, message } if self.attackers.contains(&(peer, socket)) => {
                self.world.with(peer, |endpoint, now| endpoint.consume(socket, message.cost(), now));
            }
            Event::Opened { socket, .. } if self.attackers.contains(&(peer, socket)) => {}
            Event::Incoming { socket, incoming } => {
                let number = incoming.path.trim_start_matches('/').parse::<usize>();
                let number =
                    number.map_err(|_| format!("a path that nobody asked for: {}", incoming.path))?;
                self.by_server.insert((peer, socket), number);
                self.world.with(peer, |endpoint, now| endpoint.accept(socket, "", now));
            }
            Event::Hosting { server_id, .. } if server_id != self.server => {
                return Err(format!("the server {} is told that it is {server_id}", self.server));
            }
            Event::Opened { socket, remote, .. } => {
                let is_server = remote.key.as_ref() == self.server.key();
                if !remote.verified || !remote.encrypted || is_server == self.is_host(peer) {
                    return Err(format!("peer {peer} opened a socket to somebody else: {remote:?}"));
                }
                if self.is_host(peer) {
                    let number =
                        *self.by_server.get(&(peer, socket)).ok_or("opened before it was offered")?;
                    if self.pairs[number].server.replace((peer, socket)).is_some() {
                        return Err(format!("pair {number} opened twice at the server"));
                    }
                } else {
                    self.report.opened += 1;
                    let number = self.by_client[&(peer, socket)];
                    self.pairs[number].client_open = true;
                }
            }
            Event::Message { socket, message } => self.see_message(peer, socket, message)?,
            Event::Closed { socket, code, was_clean, reason, .. } => {
                self.see_closed(peer, socket, code, was_clean, &reason)?;
            }
            Event::Resumed { .. } if !self.is_host(peer) => self.report.resumed += 1,
            Event::HostClosed { code, reason } => {
                self.hosting.remove(&peer);
                if code == CloseCode::ID_TAKEN_OVER && !self.hosting.is_empty() {
                    return Ok(());
                }
                // A server that comes up while the relay is down is told so, and asks again.
                if !matches!(code, CloseCode::RELAY_UNREACHABLE)
                    && !self.evil
                    && code != CloseCode::ABNORMAL
                    && code != CloseCode::TIMEOUT
                {
                    return Err(format!("the server was closed: {code} {reason}"));
                }
                self.host(peer);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn see_message(
        &mut self,
        peer: usize,
        socket: SocketId,
        message: Message,
    ) -> Result<(), String> {
        let (number, direction) = if self.is_host(peer) {
            (*self.by_server.get(&(peer, socket)).ok_or("a message for nobody")?, 0)
        } else {
            (self.by_client[&(peer, socket)], 1)
        };
        let lane = &mut self.pairs[number].lanes[direction];
        let Some(expected) = lane.sent.get(lane.arrived) else {
            return Err(format!("pair {number}: message {} was never sent", lane.arrived));
        };
        if *expected != message {
            return Err(format!(
                "pair {number}, direction {direction}: message {} is not what was sent",
                lane.arrived
            ));
        }
        lane.arrived += 1;
        self.report.messages += 1;
        self.report.bytes += payload(&message).len() as u64;
        if self.random.one_in(3) {
            self.unconsumed.push((peer, socket, message.cost()));
        } else {
            self.world.with(peer, |endpoint, now| endpoint.consume(socket, message.cost(), now));
        }
        Ok(())
    }

    pub(super) fn see_closed(
        &mut self,
        peer: usize,
        socket: SocketId,
        code: CloseCode,
        was_clean: bool,
        reason: &str,
    ) -> Result<(), String> {
        let at_server = self.is_host(peer);
        let number = if at_server {
            match self.by_server.get(&(peer, socket)) {
                Some(number) => *number,
                None => return Ok(()),
            }
        } else {
            self.by_client[&(peer, socket)]
        };
        let pair = &mut self.pairs[number];
        // Of several tabs with the key each may be the one that is asked, and only one knows the session.
        let orphaned = pair.orphaned || self.hosts.len() > 1;
        let explained = match code {
            CloseCode::NORMAL | CloseCode::NO_STATUS => was_clean,
            // Only someone who lost the session says so.
            CloseCode::PEER_RELOADED => orphaned,
            CloseCode::ID_TAKEN_OVER => at_server && orphaned,
            CloseCode::EXPIRED => true,
            // A connection that never opened may fail for what the network did.
            CloseCode::RELAY_UNREACHABLE
            | CloseCode::SERVER_NOT_FOUND
            | CloseCode::PEER_GONE
            | CloseCode::TIMEOUT
            | CloseCode::HANDSHAKE_FAILED
            | CloseCode::ABORTED
            | CloseCode::TRY_AGAIN_LATER
            | CloseCode::REFUSED
            | CloseCode::PROTOCOL_ERROR => !at_server && !pair.client_open,
            CloseCode::ABNORMAL => !was_clean,
            _ => false,
        };
        if !explained && !self.evil {
            return Err(format!(
                "pair {number}: peer {peer} closed with {code} {reason:?}, which nothing explains"
            ));
        }
        if was_clean && !pair.asked {
            return Err(format!(
                "pair {number}: peer {peer} hears of a clean close that nobody asked for: {code} {reason:?}"
            ));
        }
        if code.0 == 0 || !was_clean && reason.is_empty() {
            return Err(format!("pair {number}: peer {peer} closed with {code}, and nobody says why"));
        }
        if was_clean && !self.evil {
            // A side that is told that both agreed has everything that the other sent before its close.
            let lane = &pair.lanes[usize::from(!at_server)];
            if pair.client_end.is_none() && pair.server_end.is_none() && lane.arrived > lane.sent.len() {
                return Err(format!("pair {number}: more arrived than was sent"));
            }
        }
        if at_server {
            pair.server_end = Some((code, was_clean));
            pair.server = pair.server.filter(|server| *server != (peer, socket));
        } else {
            pair.client_end = Some((code, was_clean));
            pair.client = None;
        }
        Ok(())
    }

    pub(super) fn all_arrived(&self) -> bool {
        self.pairs.iter().all(|pair| {
            let over = pair.client_end.is_some() || pair.server_end.is_some();
            over || !pair.client_open && pair.client.is_none()
                || pair.client_open
                    && pair.server.is_some()
                    && pair.lanes.iter().all(|lane| lane.arrived == lane.sent.len())
        })
    }
}
