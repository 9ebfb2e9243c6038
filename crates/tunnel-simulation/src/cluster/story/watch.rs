//! The story's invariants, which are checked after every step.

use super::*;

impl Story {
    /// Looks at what the applications and the relays saw, and checks it.
    pub(super) fn watch(&mut self) -> Result<(), String> {
        for (at, note) in std::mem::take(&mut self.world.notes) {
            self.see_note(at, &note)?;
        }
        for page in 0..self.world.pages.len() {
            while let Some(event) = self.world.pages[page].events.pop_front() {
                self.see(page, event)?;
            }
        }
        Ok(())
    }

    fn see_note(&mut self, at: Instant, note: &Note) -> Result<(), String> {
        match *note {
            Note::Registered(relay, link) => {
                self.proofs.push(Proof { relay, link, at });
                self.held.retain(|(holder, _), _| *holder != relay);
                self.held.insert((relay, link), at);
            }
            Note::Unregistered(relay, link) => {
                self.held.remove(&(relay, link));
            }
            Note::Fenced(relay, link, code, page) => {
                self.report.fenced += 1;
                if code == CloseCode::ID_TAKEN_OVER && page.is_some() {
                    self.check_fence(relay, link)?;
                }
            }
            Note::NotFound(relay) => self.check_not_found(relay, at)?,
        }
        Ok(())
    }

    /// A page is told for good that another one has its server: another proof was made later, or nearly at the same time.
    fn check_fence(&self, relay: usize, link: LinkId) -> Result<(), String> {
        let Some(lost) = self.proofs.iter().rev().find(|proof| (proof.relay, proof.link) == (relay, link))
        else {
            return Err(format!("{link} of relay {relay} was fenced without a proof"));
        };
        let near = Duration::from_secs(10) + self.spread;
        let others = self.proofs.iter().filter(|proof| (proof.relay, proof.link) != (relay, link));
        match others.map(|proof| proof.at).max() {
            Some(newest) if newest + near >= lost.at => Ok(()),
            _ => Err(format!("the newest proof, at relay {relay}, was closed for good")),
        }
    }

    /// A relay says that the server is nowhere: no relay of which it, or one that it asked, knows has it.
    fn check_not_found(&self, relay: usize, at: Instant) -> Result<(), String> {
        let knows = |who: usize, whom: usize| {
            let machine = self.world.relays[who].machine.as_ref();
            machine.is_some_and(|machine| {
                machine.presence.roster().any(|(name, ..)| name == crate::cluster::name(whom))
            })
        };
        for ((holder, _), since) in &self.held {
            if *since + Duration::from_secs(1) > at || self.is_draining(*holder) {
                continue;
            }
            let asked = (0..self.world.relays.len()).filter(|other| knows(relay, *other));
            if *holder == relay
                || knows(relay, *holder)
                || asked.into_iter().any(|other| knows(other, *holder))
            {
                return Err(format!(
                    "relay {relay} says that the server is nowhere, which is at relay {holder}"
                ));
            }
        }
        Ok(())
    }

    fn is_draining(&self, relay: usize) -> bool {
        self.world.relays[relay].machine.as_ref().is_some_and(|machine| machine.is_draining)
    }

    fn see(&mut self, page: usize, event: Event) -> Result<(), String> {
        match event {
            Event::Incoming { socket, incoming } => {
                let number = incoming.path.trim_start_matches('/').parse::<usize>();
                let number =
                    number.map_err(|_| format!("a path that nobody asked for: {}", incoming.path))?;
                self.by_server.insert((page, socket), number);
                self.pairs[number].server = Some((page, socket));
            }
            Event::Opened { socket, remote, .. } => {
                if let Some(number) = self.by_client.get(&(page, socket)) {
                    if remote.key.as_ref() != self.server.key() || !remote.verified {
                        return Err(format!("page {page} reached somebody else: {remote:?}"));
                    }
                    self.report.opened += 1;
                    self.pairs[*number].is_open = true;
                }
            }
            Event::Resumed { socket } if self.by_client.contains_key(&(page, socket)) => {
                self.report.resumed += 1;
            }
            Event::Message { socket, message } => self.see_message(page, socket, &message)?,
            Event::HostClosed { code, reason } => {
                self.hosting.remove(&page);
                if self.twin.is_none() && !self.is_over {
                    return Err(format!("the only page that hosts was closed: {code} {reason}"));
                }
            }
            Event::Closed { socket, code, reason, .. } => {
                let Some(&number) = self.by_client.get(&(page, socket)) else { return Ok(()) };
                self.pairs[number].end = Some((code, reason.clone()));
                let was_open = std::mem::take(&mut self.pairs[number].is_open);
                let is_normal = code == CloseCode::NORMAL || code == CloseCode::NO_STATUS;
                // Those that never opened have tried four times.
                let may_end = self.twin.is_some() || !was_open || self.is_over && is_normal;
                if !may_end {
                    return Err(format!("a session ended: {code} {reason}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn see_message(&mut self, page: usize, socket: SocketId, message: &Message) -> Result<(), String> {
        let bytes = payload(message);
        let Some((number, _)) = bytes.split_first_chunk::<8>() else {
            return Err("a short message".into());
        };
        let number = u64::from_be_bytes(*number);
        if let Some(&pair) = self.by_client.get(&(page, socket)) {
            return self.count(pair, 1, number);
        }
        if let Some(&pair) = self.by_server.get(&(page, socket)) {
            return self.count(pair, 0, number);
        }
        Err(format!("page {page} got a message on a socket that nobody knows"))
    }

    fn count(&mut self, pair: usize, direction: usize, number: u64) -> Result<(), String> {
        let expected = self.pairs[pair].arrived[direction];
        if number != expected || number >= self.pairs[pair].sent[direction] {
            return Err(format!("pair {pair}: message {number} came, {expected} was next"));
        }
        self.pairs[pair].arrived[direction] += 1;
        self.report.messages += 1;
        Ok(())
    }
}
