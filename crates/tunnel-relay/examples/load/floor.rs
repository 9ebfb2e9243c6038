//! The least that forwarding could cost: bytes from one socket to another.

/// Accepts two connections at a time and copies between them.
pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on {}", listener.local_addr().unwrap());
        // Whoever started it looks whether it is there.
        drop(listener.accept().await.unwrap());
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            one.set_nodelay(true).unwrap();
            other.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, 65_536, 65_536).await
            });
        }
    });
}
