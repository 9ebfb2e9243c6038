//! Stories of much data: the shares of a page's memory, long messages, and turns.

use super::*;

#[test]
fn a_reader_that_stops_stops_the_sender_within_the_window() {
    let session = session::Config { window: 100_000, max_window: 100_000, ..session::Config::default() };
    let (mut world, server) = tabs_with(Config { session, ..Config::default() });
    let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    let Some(Event::Opened { socket, .. }) = world.next_event(SERVER, LONG) else { panic!("it opens") };
    world.peers[SERVER].obliging = false;
    for _ in 0..100 {
        let message = Message::Binary(Bytes::from(vec![1; 10_000]));
        world.with(CLIENT, |endpoint, _| endpoint.send(client, message)).unwrap();
    }

    let (arrived, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(arrived.len(), 10, "the window of 100,000 bytes, and the message that its end cuts through");
    let waiting = world.peers[CLIENT].endpoint.buffered_amount(client);
    assert!((890_000..=900_000).contains(&waiting), "{waiting} bytes are still with the sender");

    world.peers[SERVER].obliging = true;
    world.with(SERVER, |endpoint, now| endpoint.consume(socket, 100_064, now));
    let (arrived, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(arrived.len(), 90, "and the rest follows");
}

#[test]
fn many_sockets_share_the_memory_of_their_page() {
    const CLIENTS: usize = 64;
    const MESSAGES: usize = 128;
    let (mut world, server) = tabs();
    world.peers[SERVER].obliging = false;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        clients.push(world.connect(CLIENT, server, PORT, ConnectOptions::default()));
    }
    for _ in 0..2 * CLIENTS {
        match world.next_event(SERVER, LONG) {
            Some(Event::Incoming { socket, .. }) => {
                world.with(SERVER, |endpoint, now| endpoint.accept(socket, "", now));
            }
            Some(Event::Opened { socket, .. }) => servers.push(socket),
            other => panic!("{other:?}"),
        }
    }
    world.advance(Duration::from_secs(1));
    for client in &clients {
        for _ in 0..MESSAGES {
            let message = Message::Binary(vec![7; 16 * 1024].into());
            world.with(CLIENT, |endpoint, _| endpoint.send(*client, message)).unwrap();
        }
    }

    // Nobody at the server takes anything in.
    world.advance(Duration::from_secs(60));

    let total = Config::default().total_buffer;
    let stats =
        |world: &World, peer: usize, socket| world.peers[peer].endpoint.stats(socket).unwrap().session;
    let ahead: u64 = servers.iter().map(|server| stats(&world, SERVER, *server).bytes_received).sum();
    assert!((total / 2..=total).contains(&ahead), "{ahead} bytes wait at the server, of {total}");
}

#[test]
fn a_chat_message_does_not_wait_behind_a_file() {
    let (mut world, server) = tabs();
    world.rate = 1_000_000;
    let file = world.connect(CLIENT, server, 2, ConnectOptions::default());
    let chat = world.connect(CLIENT, server, 1, ConnectOptions::default());
    world.advance(LONG);
    world.peers[SERVER].events.clear();
    world
        .with(CLIENT, |endpoint, _| endpoint.send(file, Message::Binary(vec![0; 50_000_000].into())))
        .unwrap();
    world.advance(Duration::from_secs(5));
    let start = world.now;

    say(&mut world, CLIENT, chat, "hi");

    loop {
        match world.next_event(SERVER, LONG) {
            Some(Event::Message { message: Message::Text(_), .. }) => break,
            Some(_) => {}
            None => panic!("the chat message arrives"),
        }
    }
    // The socket's own buffer (256 KiB at 1 MB/s), twice: the file's other 45 seconds are not in the way.
    assert!(world.now - start < Duration::from_secs(1), "{:?}", world.now - start);
}

#[test]
fn small_messages_of_one_turn_share_a_record() {
    let (mut world, client, _) = connected();
    world.advance(LONG);
    let before = world.relay_stats().unwrap().frames;
    world.with(CLIENT, |endpoint, _| {
        for number in 0..500 {
            endpoint.send(client, Message::Text(format!("message {number}"))).unwrap();
        }
    });
    let (texts, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(texts.len(), 500);
    let frames = world.relay_stats().unwrap().frames - before;
    assert!(frames < 10, "{frames} frames for 500 messages and their acknowledgements");
}

#[test]
fn a_message_larger_than_every_buffer_arrives() {
    let (mut world, client, _) = connected();
    world.rate = 100_000_000;
    let message = Message::Binary(Bytes::from(vec![5; 20_000_000]));
    world.with(CLIENT, |endpoint, _| endpoint.send(client, message)).unwrap();
    let (arrived, _) = listen(&mut world, SERVER, Duration::from_secs(600));
    assert_eq!(arrived, ["20000000 bytes"]);
    assert!(world.relay_stats().unwrap().buffered == 0);
}

#[test]
fn a_message_beyond_the_receivers_limit_ends_the_socket_with_1009() {
    let session = session::Config { max_message: 1_000, ..session::Config::default() };
    let (mut world, server) = tabs_with(Config { session, ..Config::default() });
    let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    world.advance(LONG);
    world.peers[CLIENT].events.clear();
    world.with(CLIENT, |endpoint, _| endpoint.send(client, Message::Binary(vec![0; 1_001].into()))).unwrap();
    let (_, events) = listen(&mut world, CLIENT, LONG);
    assert!(matches!(&events[..], [Event::Closed { code: CloseCode::TOO_BIG, .. }]), "{events:?}");
}

#[test]
fn a_message_for_which_the_page_has_no_room_ends_the_socket_with_1013_and_no_other() {
    let session = session::Config { ledger: Ledger::new(1_000_000), ..session::Config::default() };
    let (mut world, server) = tabs_with(Config { session, ..Config::default() });
    let honest = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    let greedy = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    world.advance(LONG);
    world.peers[CLIENT].events.clear();
    world.peers[SERVER].events.clear();
    let message = Message::Binary(vec![0; 600_000].into());
    world.with(CLIENT, |endpoint, _| endpoint.send(greedy, message)).unwrap();
    let (_, events) = listen(&mut world, CLIENT, LONG);
    assert!(
        matches!(&events[..], [Event::Closed { socket, code: CloseCode::TRY_AGAIN_LATER, .. }] if *socket == greedy),
        "{events:?}"
    );
    let (_, events) = listen(&mut world, SERVER, LONG);
    assert!(matches!(&events[..], [Event::Closed { code: CloseCode::TRY_AGAIN_LATER, .. }]), "{events:?}");
    assert_eq!(world.peers[SERVER].endpoint.held(), 0, "nothing is left of it");

    let message = Message::Binary(vec![0; 200_000].into());
    world.with(CLIENT, |endpoint, _| endpoint.send(honest, message)).unwrap();
    assert_eq!(listen(&mut world, SERVER, LONG).0, ["200000 bytes"]);
}
