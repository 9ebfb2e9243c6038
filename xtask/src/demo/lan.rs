//! The demo for a local network: `cargo xtask demo --lan`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// Columns left of the QR code. The code brings its own margin, of four modules.
const INDENT: &str = "  ";

/// The address to listen on: the one that was asked for, if it is one in a network, else this machine's with that port.
pub(super) fn address(asked: SocketAddr) -> Result<SocketAddr> {
    if !asked.ip().is_loopback() && !asked.ip().is_unspecified() {
        return Ok(asked);
    }
    let help = "name one: `--lan --listen ADDRESS:PORT`";
    // Nothing is sent: the system only looks up by which of its addresses this one, which is nobody's, would be reached.
    let socket =
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot ask for this machine's address")?;
    socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .with_context(|| format!("this machine seems to be in no network; {help}"))?;
    let ip = socket.local_addr().with_context(|| format!("cannot tell this machine's address; {help}"))?.ip();
    if ip.is_loopback() || ip.is_unspecified() {
        bail!("this machine has no address in a network; {help}");
    }
    Ok(SocketAddr::new(ip, asked.port()))
}

/// The page's origin.
fn origin(listen: SocketAddr) -> String {
    // Browsers leave the usual port out.
    match listen.port() {
        80 => match listen.ip() {
            IpAddr::V4(ip) => format!("http://{ip}"),
            IpAddr::V6(ip) => format!("http://[{ip}]"),
        },
        _ => format!("http://{listen}"),
    }
}

/// The relay's settings: other devices reach it under this address only, and only the pages that it serves may use it.
pub(super) fn settings(listen: SocketAddr) -> [String; 8] {
    let host = origin(listen).trim_start_matches("http://").to_owned();
    [
        "--listen".to_owned(),
        listen.to_string(),
        "--hosts".to_owned(),
        host,
        "--allowed-origins".to_owned(),
        origin(listen),
        // Said, since a relay for others warns where it is only the default.
        "--access".to_owned(),
        "open".to_owned(),
    ]
}

/// The text to print: address, QR code, who gets in, and what pages without https do without.
pub(super) fn announcement(listen: SocketAddr) -> Result<String> {
    let url = format!("{}/", origin(listen));
    let code = QrCode::new(&url).with_context(|| format!("{url} does not fit into a QR code"))?;
    // Terminals are dark more often than light: blocks are light.
    let code = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let code = code.lines().map(|line| format!("{INDENT}{line}\n")).collect::<String>();
    Ok(format!(
        "\n  Demo, on this machine and all others of its network: {url}\n\n{code}\n\
         \x20 Everybody in this network can open these pages and use the relay, until it ends.\n\
         \x20 What pages over plain http go without, since browsers do not count them as secure contexts:\n\
         \x20 - identities whose key no script can read (WebCrypto): the key is kept as bytes, and server.identity.protected is false;\n\
         \x20 - the lock (Web Locks) that keeps two tabs from being one server: the later one takes over;\n\
         \x20 - service workers, which guests of Serve need.\n\
         \x20 What tabs say to each other is encrypted all the same, but whoever can change the pages on their way can read it.\n\
         \x20 For all of it, give the relay a certificate: docs/OPERATING.md.\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "192.168.1.23:8087";

    fn address_of(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The text in a QR code that was printed: two modules to a character, one above the other.
    fn scan(printed: &str) -> String {
        let is_of_code = |line: &&str| !line.is_empty() && line.chars().all(|char| " █▀▄".contains(char));
        let rows: Vec<Vec<char>> = printed
            .lines()
            .filter_map(|line| line.strip_prefix(INDENT))
            .filter(is_of_code)
            .map(|line| line.chars().collect())
            .collect();
        // Blocks are light. Each module becomes 4 by 4 points.
        let (width, height) = (rows[0].len() * 4, rows.len() * 8);
        let is_light = |x: usize, y: usize| match rows[y / 8][x / 4] {
            '█' => true,
            '▀' => y % 8 < 4,
            '▄' => y % 8 >= 4,
            _ => false,
        };
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(
                width,
                height,
                |x, y| {
                    if is_light(x, y) { 255 } else { 0 }
                },
            );
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "QR codes in:\n{printed}");
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_phone_that_scans_what_is_printed_opens_the_address() {
        for (address, url) in [
            (ADDRESS, "http://192.168.1.23:8087/"),
            ("10.0.0.7:80", "http://10.0.0.7/"),
            ("[fd00::2]:8087", "http://[fd00::2]:8087/"),
            ("[fd00::2]:80", "http://[fd00::2]/"),
        ] {
            let printed = announcement(address_of(address)).unwrap();
            assert!(printed.contains(&format!("of its network: {url}\n")), "{printed}");
            assert_eq!(scan(&printed), url);
        }
    }

    #[test]
    fn who_may_use_it_and_what_plain_http_costs_is_printed() {
        let printed = announcement(address_of(ADDRESS)).unwrap();
        for words in ["Everybody in this network", "WebCrypto", "Web Locks", "service workers", "encrypted"] {
            assert!(printed.contains(words), "{words} is not in:\n{printed}");
        }
    }

    #[test]
    fn only_pages_under_the_printed_address_may_use_the_relay() {
        let settings = settings(address_of("10.0.0.7:80"));
        let pairs: Vec<_> = settings.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        let expected = [
            ("--listen", "10.0.0.7:80"),
            ("--hosts", "10.0.0.7"),
            ("--allowed-origins", "http://10.0.0.7"),
            ("--access", "open"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn an_address_that_is_named_is_taken_and_its_port_kept() {
        assert_eq!(address(address_of(ADDRESS)).unwrap(), address_of(ADDRESS));
        // A machine in no network says so.
        match address(address_of("127.0.0.1:9000")) {
            Ok(found) => assert!(found.port() == 9000 && !found.ip().is_loopback(), "{found}"),
            Err(error) => assert!(format!("{error:#}").contains("--listen ADDRESS:PORT"), "{error:#}"),
        }
    }
}
