//! What can be reached from here: for `hatchery doctor`, which runs this in a container of its own.
//!
//! Each argument is `ADDRESS:PORT`, or `NAME:PORT`, which also needs DNS to work. A line each tells
//! what came of it.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::say;

/// How long a connection may take: a lost first packet is sent again after a second, and a peer in
/// a tailnet may need that long to be found.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long a name server may take, and how often it is asked.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
const QUESTIONS: usize = 3;
/// The most that is tried at once.
const MAX_TARGETS: usize = 256;

/// What came of a try to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody listens there.
    Connected,
    /// Nobody listens, but the machine is reached.
    Refused,
    /// A router or firewall says that there is no way.
    Prohibited,
    /// No answer.
    Silent,
    /// The name is not known, or no name server answers.
    Unresolved,
    /// The target is not one, or the system does not let this program try.
    Failed,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Connected,
        Self::Refused,
        Self::Prohibited,
        Self::Silent,
        Self::Unresolved,
        Self::Failed,
    ];

    /// Whether a packet got there and one came back.
    pub const fn reached(self) -> bool {
        matches!(self, Self::Connected | Self::Refused)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::Prohibited => "prohibited",
            Self::Silent => "silent",
            Self::Unresolved => "unresolved",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads what a probe has printed: targets with their outcomes.
pub fn read(output: &str) -> impl Iterator<Item = (&str, Outcome)> {
    output.lines().filter_map(|line| {
        let (target, outcome) = line.split_once(' ')?;
        let known = Outcome::ALL.into_iter();
        Some((
            target,
            known.into_iter().find(|known| known.as_str() == outcome)?,
        ))
    })
}

/// Tries all of them at once.
pub(super) fn run(targets: &[OsString]) -> ExitCode {
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        say("probe takes ADDRESS:PORT or NAME:PORT, up to 256 of them");
        return ExitCode::from(2);
    }
    let tries: Vec<_> = targets
        .iter()
        .map(|target| {
            let target = target.to_string_lossy().into_owned();
            thread::spawn(move || {
                let outcome = probe(&target);
                println!("{target} {outcome}");
            })
        })
        .collect();
    for attempt in tries {
        let _ = attempt.join();
    }
    ExitCode::SUCCESS
}

fn probe(target: &str) -> Outcome {
    if let Ok(address) = target.parse() {
        return connect(address);
    }
    let Some((name, port)) = target.rsplit_once(':') else {
        return Outcome::Failed;
    };
    let Ok(port) = port.parse() else {
        return Outcome::Failed;
    };
    match resolve(name) {
        Some(address) => connect(SocketAddr::new(address.into(), port)),
        None => Outcome::Unresolved,
    }
}

fn connect(address: SocketAddr) -> Outcome {
    match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
        Ok(_) => Outcome::Connected,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            // "Administratively prohibited" is the first for IPv4, the last for IPv6.
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied => Outcome::Prohibited,
            ErrorKind::TimedOut => Outcome::Silent,
            _ => Outcome::Failed,
        },
    }
}

/// Asks the name servers of `/etc/resolv.conf` for an IPv4 address. Not the C library: what it
/// resolves names with is not in a static program.
fn resolve(name: &str) -> Option<Ipv4Addr> {
    let servers = fs::read_to_string("/etc/resolv.conf").ok()?;
    let servers: Vec<IpAddr> = servers
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
        .collect();
    let question = question(name)?;
    for server in servers.iter().cycle().take(servers.len() * QUESTIONS) {
        if let Some(answer) = ask(*server, &question) {
            return address(&answer);
        }
    }
    None
}

fn ask(server: IpAddr, question: &[u8]) -> Option<Vec<u8>> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    socket.connect((server, 53)).ok()?;
    socket.send(question).ok()?;
    let mut answer = vec![0; 1500];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// A DNS question (RFC 1035, section 4.1) for the name's A record, recursion desired.
fn question(name: &str) -> Option<Vec<u8>> {
    let mut message = vec![0x48, 0x61, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok();
        message.push(length.filter(|length| (1..=63).contains(length))?);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    Some(message)
}

/// The first A record of an answer.
fn address(answer: &[u8]) -> Option<Ipv4Addr> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let mut at = 12;
    for _ in 0..number(4)? {
        at = after_name(answer, at)? + 4;
    }
    for _ in 0..number(6)? {
        at = after_name(answer, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        at += 10;
        if let (1, Some(&[a, b, c, d])) = (kind, answer.get(at..at + length)) {
            return Some(Ipv4Addr::new(a, b, c, d));
        }
        at += length;
    }
    None
}

/// Where a name ends: after its empty label or after a pointer (RFC 1035, section 4.1.4).
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_found_behind_an_alias() {
        let mut answer = question("www.example.test").unwrap();
        answer[7] = 2;
        answer.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10");
        answer.extend(b"\x01a\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\xd5\x50\x02");
        assert_eq!(address(&answer), Some(Ipv4Addr::new(10, 213, 80, 2)));
        assert_eq!(address(&question("www.example.test").unwrap()), None);
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        assert_eq!(question("a..b"), None);
        assert_eq!(question(&"x".repeat(64)), None);
    }

    #[test]
    fn outcomes_are_read_as_they_are_printed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap().to_string();
        assert_eq!(probe(&target), Outcome::Connected);
        drop(listener);
        // A program that another test is starting holds it, too, until it runs.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while probe(&target) == Outcome::Connected {
            assert!(std::time::Instant::now() < deadline, "{target} stays");
        }
        let line = format!(
            "{target} {}\nnonsense\n1.2.3.4:5 surprised\n",
            probe(&target)
        );
        let seen: Vec<_> = read(&line).collect();
        assert_eq!(seen, [(target.as_str(), Outcome::Refused)]);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = address(&bytes);
        }
    }
}
