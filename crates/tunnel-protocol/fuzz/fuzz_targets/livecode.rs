//! No text makes either side of the livecode dialect panic, and what it understands it says again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel_protocol::livecode::{Command, LivecodeClient, Notification, Packet};

fuzz_target!(|text: &str| {
    if let Ok(command) = Command::parse(text) {
        let _ = (command.name(), command.request(), command.has_credential("secret"));
    }
    if let Some(Ok(packet)) = Packet::decode(text) {
        assert_eq!(packet.encode(), text);
    }
    if let Some(notification) = Notification::parse(text, " ") {
        assert_eq!(Notification::parse(&notification.to_string(), " "), Some(notification));
    }
    let mut client = LivecodeClient::with_log();
    client.eval("1", "secret");
    client.modules("secret");
    client.connect_to_server(1, 80);
    for line in text.lines() {
        if client.handle_text(line).is_err() {
            return;
        }
    }
    while client.poll_transmit().is_some() || client.poll_event().is_some() {}
});
