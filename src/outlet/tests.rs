//! The outlet with real sockets: a client as the CLI is one, and listeners that hear or must not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use if_addrs::{IfAddr, IfOperStatus, Ifv4Addr, Interface};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::serve::{CONNECTIONS, MAX_HEAD, Times};
use super::way::Ways;
use super::{MAX_REFUSALS, Outlet, judge};
use crate::config::Subnets;

const SOON: Duration = Duration::from_secs(10);

/// A service of this server's, which nobody is to reach.
async fn service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Nobody has connected, nor does in a while.
async fn heard_nothing(service: &TcpListener) {
    let heard = timeout(Duration::from_millis(100), service.accept()).await;
    assert!(heard.is_err(), "it was reached: {heard:?}");
}

/// As on a server, but that every name has these addresses.
fn leading_to(all: &[SocketAddr]) -> Ways {
    let all = all.to_vec();
    Ways {
        resolve: Box::new(move |_, _| {
            let all = all.clone();
            Box::pin(async move { Ok(all) })
        }),
        // Not that of the environment in which the tests run.
        proxy: Matcher::builder().build(),
        ..Ways::of_this_server(Subnets::default())
    }
}

/// The same where all addresses are open.
fn open_to(all: &[SocketAddr]) -> Ways {
    Ways {
        judge: Box::new(|_| None),
        ..leading_to(all)
    }
}

fn opened(ways: Ways) -> crate::error::Result<Outlet> {
    Outlet::with(ways, Times::default())
}

async fn connected(outlet: &Outlet) -> TcpStream {
    TcpStream::connect(outlet.address).await.unwrap()
}

/// Sends this, and gives the head of the answer.
async fn asked(outlet: &Outlet, request: &str) -> (String, TcpStream) {
    let mut client = connected(outlet).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let head = timeout(SOON, head(&mut client)).await;
    (head.expect("no answer"), client)
}

async fn head(from: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn connect(to: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")
}

/// All that comes until the end; an end by a reset is one, too.
async fn rest(mut from: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = timeout(SOON, from.read_to_end(&mut all))
        .await
        .expect("it goes on");
    all
}

#[tokio::test]
async fn a_name_that_leads_to_the_server_leads_nowhere() {
    let (service, address) = service().await;
    let outlet = opened(leading_to(&[address])).unwrap();
    let (answer, client) = asked(&outlet, &connect("evil.example:443")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let said = String::from_utf8(rest(client).await).unwrap();
    assert!(
        said.contains("evil.example: it is an address of this server"),
        "{said}"
    );
    heard_nothing(&service).await;
    let [refusal] = &outlet.refusals()[..] else {
        panic!("{:?}", outlet.refusals())
    };
    assert_eq!(refusal.host, "evil.example");
}

#[tokio::test]
async fn one_address_that_leads_astray_closes_the_name() {
    let (service, address) = service().await;
    let public = "203.0.113.1:443".parse().unwrap();
    for all in [[public, address], [address, public]] {
        let outlet = opened(leading_to(&all)).unwrap();
        let (answer, _) = asked(&outlet, &connect("evil.example:443")).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        heard_nothing(&service).await;
    }
}

#[tokio::test]
async fn what_is_no_public_name_is_not_even_resolved() {
    let (service, address) = service().await;
    let outlet = opened(Ways {
        judge: Box::new(|_| None),
        ..leading_to(&[address])
    })
    .unwrap();
    for host in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "localhost.localdomain",
        "server",
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "0x7f.0x1",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd7a:115c:a1e0::1]",
        "host.docker.internal",
        "hatchery.invalid",
        "evil_.%31.example",
        "",
    ] {
        let (answer, _) = asked(&outlet, &connect(&format!("{host}:443"))).await;
        let refused = ["HTTP/1.1 403 ", "HTTP/1.1 400 "];
        assert!(
            refused.iter().any(|it| answer.starts_with(it)),
            "{host}: {answer}"
        );
    }
    for target in [
        "evil.example",
        "a@evil.example:443",
        "evil.example:99999",
        "/",
    ] {
        let (answer, _) = asked(&outlet, &connect(target)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    heard_nothing(&service).await;
}

#[tokio::test]
async fn nothing_is_fetched_without_tls() {
    let (service, address) = service().await;
    let outlet = opened(open_to(&[address])).unwrap();
    for request in [
        format!("GET http://{address}/larva HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
        "POST http://evil.example/ HTTP/1.0\r\nContent-Length: 1\r\n\r\nx".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    ] {
        let (answer, _) = asked(&outlet, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.0 403 "),
            "{answer}"
        );
    }
    heard_nothing(&service).await;
    let hosts: Vec<_> = outlet.refusals().into_iter().map(|it| it.host).collect();
    assert_eq!(hosts, [address.to_string(), "evil.example".to_owned()]);
}

#[tokio::test]
async fn a_tunnel_takes_bytes_both_ways_after_one_end_has_said_all() {
    let (service, address) = service().await;
    let outlet = opened(open_to(&[address])).unwrap();
    let serving = tokio::spawn(async move {
        let (mut client, _) = service.accept().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        client.write_all(b"heard ").await.unwrap();
        client.write_all(&heard).await.unwrap();
    });
    // The first bytes may come with the request, as those of an eager client do.
    let request = connect("friend.example:443") + "a";
    let (answer, mut client) = asked(&outlet, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let large = vec![b'b'; 1024 * 1024];
    client.write_all(&large).await.unwrap();
    client.shutdown().await.unwrap();
    let said = rest(client).await;
    assert!(said.starts_with(b"heard abbb"));
    assert_eq!(said.len(), "heard a".len() + large.len());
    serving.await.unwrap();
    assert_eq!(outlet.refusals(), []);
}

#[tokio::test]
async fn a_name_is_looked_up_once() {
    let (service, address) = service().await;
    let (astray, other) = self::service().await;
    let times = std::sync::atomic::AtomicUsize::new(0);
    let outlet = opened(Ways {
        resolve: Box::new(move |_, _| {
            let first = times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            Box::pin(async move { Ok(vec![if first { address } else { other }]) })
        }),
        ..open_to(&[])
    })
    .unwrap();
    let (answer, _client) = asked(&outlet, &connect("rebound.example:443")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let reached = timeout(SOON, service.accept()).await;
    reached.expect("it went elsewhere").unwrap();
    heard_nothing(&astray).await;
}

#[tokio::test]
async fn what_comes_after_a_refused_request_is_not_read() {
    let (service, address) = service().await;
    let outlet = opened(open_to(&[address])).unwrap();
    let two = connect("localhost:443") + &connect("friend.example:443");
    let (answer, client) = asked(&outlet, &two).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let said = String::from_utf8(rest(client).await).unwrap();
    assert!(!said.contains("HTTP/1.1"), "{said}");
    heard_nothing(&service).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_or_broken_is_no_request() {
    let (service, address) = service().await;
    let outlet = opened(open_to(&[address])).unwrap();
    let large = "x".repeat(MAX_HEAD * 2);
    for request in [
        format!("CONNECT friend.example:443 HTTP/1.1\r\nLarge: {large}\r\n\r\n"),
        connect(&format!("{large}.example:443")),
        "\0\0\0\r\n\r\n".to_owned(),
        "CONNECT friend.example:443 HTTP/1.1\r\nA\r\n\r\n".to_owned(),
    ] {
        let mut client = connected(&outlet).await;
        // It may be refused before it is whole.
        let _ = client.write_all(request.as_bytes()).await;
        let said = rest(client).await;
        assert!(!said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    }
    heard_nothing(&service).await;
}

#[tokio::test]
async fn a_head_has_its_time() {
    let (service, address) = service().await;
    let times = Times {
        head: Duration::from_millis(200),
        ..Times::default()
    };
    let outlet = Outlet::with(open_to(&[address]), times).unwrap();
    let mut client = connected(&outlet).await;
    client
        .write_all(b"CONNECT friend.example:443 HT")
        .await
        .unwrap();
    let said = timeout(SOON / 2, rest(client)).await;
    let said = said.expect("it waits on");
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    heard_nothing(&service).await;
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let idle = Duration::from_secs(2);
    let (one, mut client) = tokio::io::duplex(64);
    let (other, mut target) = tokio::io::duplex(64);
    let passing = tokio::spawn(super::pass::pass(one, other, idle));
    for _ in 0..3 {
        tokio::time::sleep(idle / 2).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(target.read_u8().await.unwrap(), b'x');
    }
    assert!(!passing.is_finished());
    timeout(SOON, passing).await.expect("it goes on").unwrap();
}

#[tokio::test]
async fn so_many_at_once_and_no_more() {
    let (service, address) = service().await;
    let outlet = opened(open_to(&[address])).unwrap();
    let mut tunnels = Vec::new();
    for _ in 0..CONNECTIONS {
        let (answer, client) = asked(&outlet, &connect("friend.example:443")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        tunnels.push(client);
    }
    let mut waiting = connected(&outlet).await;
    let request = connect("friend.example:443");
    waiting.write_all(request.as_bytes()).await.unwrap();
    let answered = timeout(Duration::from_millis(200), head(&mut waiting)).await;
    assert!(answered.is_err(), "{answered:?}");
    // The first has an end at both its ends.
    drop((tunnels.remove(0), service.accept().await.unwrap()));
    let answered = timeout(SOON, head(&mut waiting)).await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
}

#[tokio::test]
async fn with_the_outlet_its_tunnels_end() {
    let (service, address) = service().await;
    let outlet = opened(open_to(&[address])).unwrap();
    let (_, client) = asked(&outlet, &connect("friend.example:443")).await;
    let (reached, _) = service.accept().await.unwrap();
    let at = outlet.address;
    drop(outlet);
    assert_eq!(rest(client).await, b"");
    assert_eq!(rest(reached).await, b"");
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_reached_is_not_refused() {
    let (service, address) = service().await;
    drop(service);
    let missing = Ways {
        resolve: Box::new(|_, _| Box::pin(async { Err(io::Error::other("no such name")) })),
        ..open_to(&[])
    };
    for (ways, why) in [
        (open_to(&[address]), "refused"),
        (open_to(&[]), "no address"),
        (missing, "no such name"),
    ] {
        let outlet = opened(ways).unwrap();
        let (answer, client) = asked(&outlet, &connect("friend.example:443")).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        let said = String::from_utf8(rest(client).await).unwrap();
        assert!(said.contains(why), "{said}");
        assert_eq!(outlet.refusals(), []);
    }
}

/// A proxy that answers this to whatever it is asked, then says again what it hears. The task gives
/// what it was asked.
async fn proxy(answer: &'static str) -> (SocketAddr, Pin<Box<dyn Future<Output = String> + Send>>) {
    let (listener, address) = service().await;
    let serving = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let asked = head(&mut client).await;
        client.write_all(answer.as_bytes()).await.unwrap();
        let mut heard = [0; 4];
        if client.read_exact(&mut heard).await.is_ok() {
            client.write_all(&heard).await.unwrap();
        }
        asked
    });
    (address, Box::pin(async move { serving.await.unwrap() }))
}

fn behind(proxy: SocketAddr, direct: &str) -> Ways {
    Ways {
        proxy: Matcher::builder()
            .https(format!("http://{proxy}"))
            .no(direct.to_owned())
            .build(),
        ..leading_to(&[])
    }
}

#[tokio::test]
async fn where_the_server_has_a_proxy_the_outlet_goes_on_through_it() {
    let (address, serving) = proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let outlet = opened(behind(address, "direct.example")).unwrap();
    let (answer, _) = asked(&outlet, &connect("127.0.0.1:443")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let (answer, _) = asked(&outlet, &connect("direct.example:443")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "no address: {answer}");
    let (answer, mut client) = asked(&outlet, &connect("friend.example:8443")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    client.write_all(b"echo").await.unwrap();
    assert_eq!(rest(client).await, b"echo");
    let asked = serving.await;
    assert!(
        asked.starts_with("CONNECT friend.example:8443 HTTP/1.1\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn what_the_servers_proxy_refuses_is_said_to_be_its_doing() {
    let (address, _serving) = proxy("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").await;
    let outlet = opened(behind(address, "")).unwrap();
    let (answer, client) = asked(&outlet, &connect("friend.example:443")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let said = String::from_utf8(rest(client).await).unwrap();
    assert!(said.contains("this server's proxy answers 407"), "{said}");
}

#[test]
fn the_program_is_led_to_the_outlet_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let outlet = opened(leading_to(&[])).unwrap();
    let mut command = tokio::process::Command::new("true");
    command
        .env_clear()
        .env("NO_PROXY", "*")
        .env("no_proxy", "*");
    outlet.lead(&mut command);
    let set: Vec<_> = command
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let url = format!("http://127.0.0.1:{}", outlet.port());
    assert_eq!(set.len(), 4, "{set:?}");
    assert!(
        set.iter()
            .all(|(name, value)| !name.eq_ignore_ascii_case("no_proxy") && **value == *url),
        "{set:?}"
    );
}

#[tokio::test]
async fn refusals_are_few_and_fit_for_a_terminal() {
    let outlet = opened(leading_to(&[])).unwrap();
    for number in 0..MAX_REFUSALS * 2 {
        outlet
            .refusals
            .add(&format!("\x1b[31m{number}\r\n{}", "x".repeat(9999)), "why");
        outlet.refusals.add("containers.dev", "why");
    }
    let all = outlet.refusals();
    assert_eq!(all.len(), MAX_REFUSALS);
    for refusal in all {
        assert!(!refusal.host.contains(['\x1b', '\r', '\n']), "{refusal:?}");
        assert!(refusal.host.len() < 400, "{refusal:?}");
    }
}

fn interface(name: &str, ip: &str, netmask: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        addr: IfAddr::V4(Ifv4Addr {
            ip: ip.parse().unwrap(),
            netmask: netmask.parse().unwrap(),
            prefixlen: 0,
            broadcast: None,
        }),
        index: None,
        oper_status: IfOperStatus::Up,
        is_p2p: false,
    }
}

#[test]
fn what_is_closed_to_drones_is_closed_to_the_cli() {
    let interfaces = [
        interface("eth0", "192.168.7.5", "255.255.255.0"),
        interface("docker0", "172.17.0.1", "255.255.0.0"),
        interface("br-lan", "192.168.9.1", "255.255.255.0"),
    ];
    let is = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        judge::addresses([address], &interfaces, &Subnets::default())
    };
    for closed in [
        "127.0.0.1",
        "127.255.0.9",
        "0.0.0.0",
        "0.0.0.1",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "fe80::1",
        "febf::1",
        "100.64.0.1",
        "100.127.255.255",
        "100.100.100.200",
        "fd7a:115c:a1e0::1",
        "fd7a:115c:a1e0:ab12::9",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "192.168.7.5",
        "::ffff:192.168.7.5",
        "172.17.0.1",
        "172.17.0.9",
        "10.189.0.1",
        "10.189.255.9",
        "192.168.9.1",
    ] {
        assert!(is(closed).is_some(), "{closed}");
    }
    for open in [
        "140.82.121.4",
        "192.168.7.6",
        "192.168.9.2",
        "10.188.0.1",
        "172.18.0.9",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.17",
        "2606:50c0:8000::153",
        "fd00:ec2::253",
        "fd12::1",
        "64:ff9b::140.82.121.4",
        "223.255.255.255",
    ] {
        assert_eq!(is(open), None, "{open}");
    }
}
