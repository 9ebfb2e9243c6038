//! A TCP proxy that is a network which breaks: what is sent does not arrive any more, and nobody is told.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Dropping it ends it, with all connections through it.
pub(crate) struct Stall {
    pub(crate) address: SocketAddr,
    is_broken: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

impl Stall {
    /// Carries connections to an address, at which nobody has to listen yet.
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_broken, broken) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(stream, target, broken.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, is_broken, _connections: tasks }
    }

    /// Passes nothing on any more: no bytes, no ends, no connections.
    pub(crate) fn break_off(&self) {
        self.is_broken.send_replace(true);
    }

    /// Passes on again, beginning with what has come meanwhile.
    pub(crate) fn mend(&self) {
        self.is_broken.send_replace(false);
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut broken: watch::Receiver<bool>) {
    whole(&mut broken).await;
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    let ((near_reader, near_writer), (far_reader, far_writer)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pass(near_reader, far_writer, broken.clone()) => {}
        () = pass(far_reader, near_writer, broken) => {}
    }
}

async fn pass(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut broken: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        whole(&mut broken).await;
        let Ok(len @ 1..) = read else { return };
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

/// Waits until the network is whole.
async fn whole(broken: &mut watch::Receiver<bool>) {
    // Its sender is gone at the end of the test only.
    let _ended = broken.wait_for(|is_broken| !is_broken).await;
}
