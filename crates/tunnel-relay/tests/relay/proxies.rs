//! The recipes for reverse proxies in `deploy/`, run by the proxies themselves with a relay behind them.
//!
//! `cargo xtask setup` installs the proxies where it may. Where one is missing, its recipe is not tried, and the test says so.

#![cfg(target_os = "linux")]
use crate::support::process::{Log, Process, command, locate};
use crate::support::{hello, raw_frame, within};
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

/// A relay, a folder for a proxy, and a certificate for localhost that signs itself.
struct Site {
    relay: Process,
    folder: TempDir,
    /// The address at which the proxy is to listen.
    port: u16,
}

/// A proxy that runs. Dropping it ends it, with its helpers.
struct Proxy {
    process: Child,
    log: Log,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(id) = self.process.id() {
            let _gone = std::process::Command::new("kill").args(["-TERM", &id.to_string()]).status();
        }
    }
}

impl Site {
    async fn new() -> Self {
        let relay = Process::serve(None, &["--trusted-proxies", "127.0.0.1", "--log", "info"]).await;
        let folder = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let site = Self { relay, folder, port };
        std::fs::write(site.path("both.pem"), format!("{certificate}{key}")).unwrap();
        std::fs::write(site.path("fullchain.pem"), certificate).unwrap();
        std::fs::write(site.path("privkey.pem"), key).unwrap();
        site
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A recipe with some texts replaced, each of which has to be there.
    fn recipe(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let mut text = std::fs::read_to_string(format!("{DEPLOY}/{name}")).unwrap();
        let relay = self.relay.address.to_string();
        for (from, to) in changes.iter().copied().chain([("127.0.0.1:8087", &*relay)]) {
            assert!(text.contains(from), "{from:?} is not in deploy/{name}");
            text = text.replace(from, to);
        }
        text
    }

    /// Starts a proxy and waits until it says this, which it does when it listens.
    async fn start(&self, command: &mut Command, ready: &str) -> Proxy {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.env("HOME", self.folder.path()).spawn().unwrap();
        let (stdout, stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let sources: [Box<dyn AsyncRead + Send + Unpin>; 2] = [Box::new(stdout), Box::new(stderr)];
        let proxy = Proxy { process, log: Log::of(sources) };
        proxy.log.has(1, ready).await;
        proxy
    }

    /// Has the relay tried through the proxy: registration, connection, echo.
    async fn assert_works(&self, proxy: &Proxy, path: &str) {
        let url = format!("wss://localhost:{}{path}", self.port);
        let mut check = command(&["check", &url, "--ca", &self.path("fullchain.pem")]);
        let output = within("the check", check.output()).await.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}\n{}", proxy.log.text());
        for word in ["handshake: taken", "registration: ", "echo: 8 messages"] {
            assert!(said.contains(word), "{word} is not in {said}");
        }
        let log = self.relay.log();
        assert!(!log.contains(" WARN "), "nothing is misconfigured: {log}");
    }
}

async fn nginx(site: &Site, location: &str) -> Option<Proxy> {
    let program = locate("nginx")?;
    let recipe = site.recipe(
        "nginx.conf",
        &[
            ("listen 443 ssl;", &format!("listen 127.0.0.1:{} ssl;", site.port)),
            ("listen [::]:443 ssl;", ""),
            ("/etc/letsencrypt/live/relay.example.org", site.folder.path().to_str().unwrap()),
            ("server_name relay.example.org;", "server_name localhost;"),
            ("location / {", &format!("location {location} {{")),
        ],
    );
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", site.path(name)))
        .concat();
    let config = format!(
        "pid {};\nerror_log stderr notice;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{recipe}\n}}\n",
        site.path("pid")
    );
    std::fs::write(site.path("nginx.conf"), config).unwrap();
    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-c", &site.path("nginx.conf"), "-g", "daemon off;"]);
    Some(site.start(&mut command, "start worker process ").await)
}

#[tokio::test]
async fn nginx_passes_everything_on() {
    let site = Site::new().await;
    let Some(nginx) = nginx(&site, "/").await else { return };
    site.assert_works(&nginx, "/").await;
    site.assert_works(&nginx, "/any/path?and=query").await;
}

#[tokio::test]
async fn nginx_passes_everything_on_below_a_path() {
    let site = Site::new().await;
    let Some(nginx) = nginx(&site, "/relay/").await else { return };
    site.assert_works(&nginx, "/relay/").await;
    let url = format!("wss://localhost:{}/other/", site.port);
    let mut check = command(&["check", &url, "--ca", &site.path("fullchain.pem")]);
    let output = within("the check", check.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("404") && said.contains("nginx") && said.contains("check the path"), "{said}");
}

async fn haproxy(site: &Site) -> Option<Proxy> {
    let program = locate("haproxy")?;
    let recipe = site.recipe(
        "haproxy.cfg",
        &[
            ("bind :443 ", &format!("bind 127.0.0.1:{} ", site.port)),
            ("/etc/haproxy/relay.example.org.pem", &site.path("both.pem")),
            ("inter 2s", "inter 50ms"),
            // As few descriptors as everybody has.
            ("maxconn 20000", "maxconn 200"),
        ],
    );
    std::fs::write(site.path("haproxy.cfg"), recipe).unwrap();
    let mut command = Command::new(program);
    // With a process that watches the one that works, which says when that listens.
    command.args(["-W", "-db", "-f", &site.path("haproxy.cfg")]);
    Some(site.start(&mut command, "Loading success").await)
}

#[tokio::test]
async fn haproxy_passes_everything_on_and_asks_for_the_relays_health() {
    let site = Site::new().await;
    let Some(haproxy) = haproxy(&site).await else { return };
    site.assert_works(&haproxy, "/").await;
    // It asks /readyz, and sends nobody any more to a relay that drains.
    let (mut stays, _) = crate::support::Peer::link_to(site.relay.address).await;
    site.relay.signal("-TERM");
    assert!(matches!(stays.frame().await, tunnel_protocol::Frame::GoAway { .. }));
    haproxy.log.has(1, "is DOWN").await;
}

#[tokio::test]
async fn haproxy_takes_web_sockets_over_http_2() {
    use bytes::Bytes;
    use rustls::pki_types::pem::PemObject as _;
    let site = Site::new().await;
    let Some(_haproxy) = haproxy(&site).await else { return };
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(site.path("fullchain.pem")).unwrap();
    roots.add(certificate).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = within("TLS", connector.connect("localhost".try_into().unwrap(), stream)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // As a browser does it (RFC 8441): one stream of a connection becomes the WebSocket.
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = within("the server's settings", sender.ready()).await.unwrap();
    // The library has no event for the server's settings, which come behind its preface.
    while !sender.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = http::Request::builder()
        .method(http::Method::CONNECT)
        .uri(format!("https://localhost:{}/", site.port))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "tunnel.v1")
        .body(())
        .unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    let answer = within("an answer", answer).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["sec-websocket-protocol"]),
        (200, &"tunnel.v1".parse().unwrap())
    );
    let hello = hello().encode();
    body.send_data(Bytes::from(raw_frame(0x82, hello.len() as u64, &hello)), false).unwrap();
    let welcome = within("WELCOME", answer.into_body().data()).await.unwrap().unwrap();
    assert_eq!((welcome[0], welcome[2]), (0x82, 0x82), "a binary message that is a WELCOME");
}

#[tokio::test]
async fn caddy_passes_everything_on() {
    let Some(program) = locate("caddy") else { return };
    let site = Site::new().await;
    let version = Command::new(&program).arg("version").output().await.unwrap().stdout;
    let version = String::from_utf8_lossy(&version).trim().trim_start_matches('v').to_owned();
    let is_old =
        ["2.0.", "2.1.", "2.2.", "2.3.", "2.4.", "2.5.", "2.6."].iter().any(|old| version.starts_with(old));
    let tls =
        format!("{{$RELAY_DOMAIN}} {{\n\ttls {} {}", site.path("fullchain.pem"), site.path("privkey.pem"));
    let relay = site.relay.address.to_string();
    let changes = [("{$RELAY_DOMAIN} {", &*tls), ("relay:8087", &relay)];
    let mut recipe = std::fs::read_to_string(format!("{DEPLOY}/Caddyfile")).unwrap();
    for (from, to) in changes {
        assert!(recipe.contains(from), "{from:?} is not in deploy/Caddyfile");
        recipe = recipe.replace(from, to);
    }
    if is_old {
        // As the recipe says: it is for 2.7 and newer.
        let lines: Vec<_> =
            recipe.lines().filter(|line| !line.trim().starts_with("stream_close_delay")).collect();
        recipe = lines.join("\n") + "\n";
    }
    let options = "{\n\tadmin off\n\tauto_https off\n\tskip_install_trust\n}\n";
    std::fs::write(site.path("Caddyfile"), format!("{options}{recipe}")).unwrap();
    let mut command = Command::new(program);
    command.args(["run", "--adapter", "caddyfile", "--config", &site.path("Caddyfile")]);
    command
        .env("RELAY_DOMAIN", format!("https://localhost:{}", site.port))
        .env("XDG_DATA_HOME", site.folder.path());
    command.env("XDG_CONFIG_HOME", site.folder.path());
    let caddy = site.start(&mut command, "serving initial configuration").await;
    site.assert_works(&caddy, "/").await;
}

#[tokio::test]
async fn apache_passes_everything_on() {
    let Some(program) = locate("apache2") else { return };
    let site = Site::new().await;
    let recipe = site.recipe(
        "apache.conf",
        &[
            ("*:443", &format!("127.0.0.1:{}", site.port)),
            ("ServerName relay.example.org", "ServerName localhost"),
            ("/etc/letsencrypt/live/relay.example.org", site.folder.path().to_str().unwrap()),
        ],
    );
    let modules: String =
        ["mpm_event", "authz_core", "headers", "socache_shmcb", "ssl", "proxy", "proxy_http"]
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
    let config = format!(
        "ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\nErrorLog /dev/stderr\nServerName localhost\n\
         User nobody\nGroup nogroup\nListen 127.0.0.1:{port}\n{modules}{recipe}\n",
        folder = site.folder.path().display(),
        port = site.port,
    );
    std::fs::write(site.path("apache.conf"), config).unwrap();
    let mut command = Command::new(program);
    command.args(["-D", "FOREGROUND", "-f", &site.path("apache.conf")]);
    let apache = site.start(&mut command, "resuming normal operations").await;
    site.assert_works(&apache, "/").await;
}
