//! Both ends of the connections that are measured, and the measuring.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::contestants::Contestant;

/// Connections that are opened for the first byte.
const CONNECTIONS: usize = 40;
/// Round trips that are measured, and those before them.
const ROUND_TRIPS: usize = 2_000;
const WARM_UP: usize = 200;
/// Bytes of a message that goes there and back.
const PING: usize = 64;
/// Bytes of a write and a read.
const BLOCK: usize = 256 << 10;
/// Longest silence of a connection.
const SILENCE: Duration = Duration::from_secs(60);

/// The first byte of a connection: what the far end does.
const ECHO: u8 = b'e';
/// Takes as many bytes as the next eight bytes say, and answers with one.
const TAKE: u8 = b't';
/// Gives as many.
const GIVE: u8 = b'g';

/// The far end: a port of this program.
pub(super) struct Ends {
    address: SocketAddr,
}

/// Figures of one contestant in one round.
pub(super) struct Figures {
    pub(super) first_byte: Duration,
    pub(super) round_trip_p50: Duration,
    pub(super) round_trip_p99: Duration,
    pub(super) up: Bulk,
    pub(super) down: Bulk,
}

/// One direction.
pub(super) struct Bulk {
    pub(super) megabytes_per_second: f64,
    /// Of all processes of the contestant.
    pub(super) cpu_ms_per_megabyte: f64,
}

impl Ends {
    pub(super) fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that ends early is the near end's to report.
                thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { address })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Measures one contestant.
    pub(super) fn measure(&self, contestant: &Contestant, bytes: u64) -> Result<Figures> {
        let entrance = contestant.entrance.unwrap_or(self.address);
        let mut first_bytes = Vec::new();
        for _ in 0..CONNECTIONS {
            let started = Instant::now();
            let mut stream = connect(entrance)?;
            stream.write_all(&[ECHO, 1])?;
            stream.read_exact(&mut [0])?;
            first_bytes.push(started.elapsed());
        }
        let mut stream = connect(entrance)?;
        stream.write_all(&[ECHO])?;
        let mut round_trips = Vec::new();
        let mut ping = [7; PING];
        for number in 0..WARM_UP + ROUND_TRIPS {
            let started = Instant::now();
            stream.write_all(&ping)?;
            stream.read_exact(&mut ping)?;
            if number >= WARM_UP {
                round_trips.push(started.elapsed());
            }
        }
        drop(stream);
        Ok(Figures {
            first_byte: part(&mut first_bytes, 50),
            round_trip_p50: part(&mut round_trips, 50),
            round_trip_p99: part(&mut round_trips, 99),
            up: bulk(contestant, entrance, TAKE, bytes)?,
            down: bulk(contestant, entrance, GIVE, bytes)?,
        })
    }
}

/// The duration that so many of a hundred do not exceed.
fn part(durations: &mut [Duration], percent: usize) -> Duration {
    durations.sort_unstable();
    durations.get((durations.len() * percent / 100).min(durations.len() - 1)).copied().unwrap_or_default()
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// Sends or fetches so many bytes on a connection that is open before the clock starts.
fn bulk(contestant: &Contestant, entrance: SocketAddr, what: u8, bytes: u64) -> Result<Bulk> {
    let mut stream = connect(entrance)?;
    stream.write_all(&[what])?;
    stream.write_all(&bytes.to_le_bytes())?;
    // All processes of the way are there: some contestants start one for each connection.
    stream.read_exact(&mut [0])?;
    let cpu = contestant.cpu()?;
    let started = Instant::now();
    if what == TAKE {
        write(&mut stream, bytes)?;
        stream.read_exact(&mut [0]).context("the far end has not got all")?;
    } else {
        stream.write_all(&[1])?;
        read(&mut stream, bytes)?;
    }
    let elapsed = started.elapsed();
    let cpu = contestant.cpu()? - cpu;
    let megabytes = bytes as f64 / 1e6;
    Ok(Bulk {
        megabytes_per_second: megabytes / elapsed.as_secs_f64(),
        cpu_ms_per_megabyte: cpu.as_secs_f64() * 1e3 / megabytes,
    })
}

fn write(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let block = vec![7; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let len = left.min(BLOCK as u64);
        stream.write_all(&block[..usize::try_from(len)?])?;
        left -= len;
    }
    Ok(())
}

fn read(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left.min(BLOCK as u64))?;
        let len = stream.read(&mut block[..most])?;
        ensure!(len > 0, "the connection ended {left} bytes before its time");
        left -= len as u64;
    }
    Ok(())
}

/// The far end of one connection.
fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut what = [0];
    stream.read_exact(&mut what)?;
    if what[0] == ECHO {
        let mut buffer = [0; PING];
        loop {
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..len])?;
        }
    }
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    let bytes = u64::from_le_bytes(bytes);
    stream.write_all(&[1])?;
    match what[0] {
        TAKE => {
            read(&mut stream, bytes)?;
            stream.write_all(&[1])?;
        }
        GIVE => {
            stream.read_exact(&mut [0])?;
            write(&mut stream, bytes)?;
        }
        other => bail!("nobody asks for {other}"),
    }
    // Until the near end has closed it, so that no process of the way ends before its CPU time was read.
    stream.read_exact(&mut [0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_durations_is_one_of_them() {
        let mut all: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(part(&mut all, 50), Duration::from_millis(51));
        assert_eq!(part(&mut all, 99), Duration::from_millis(100));
        assert_eq!(part(&mut [Duration::from_millis(3)], 99), Duration::from_millis(3));
    }
}
