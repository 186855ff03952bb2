//! `hatchery ports`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use serde_json::json;

use super::{Context, hostname, ssh_command};
use crate::drone::DroneName;
use crate::error::Result;
use crate::life::furnish;
use crate::life::ports::{self, Port, Reach};
use crate::ui::table::{Cell, Column, Table};

/// The lowest port that anybody may listen on (`ip_unprivileged_port_start` in `ip(7)`).
const UNPRIVILEGED: u16 = 1024;
/// What is added to a lower one on the machine that it is forwarded to.
const RAISED_BY: u16 = 8000;

const COLUMNS: [Column; 4] = [
    Column::new("PORT", 0),
    Column::new("PROCESS", 2),
    Column::new("LABEL", 1),
    Column::whole("HOW TO REACH IT"),
];

/// Show the listening ports of a drone and how to reach them
///
/// Labels come from portsAttributes, and ports that only forwardPorts names are listed too. The information
/// comes from the drone itself.
#[derive(Debug, Args)]
pub struct Ports {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,
}

impl Ports {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let docker = context.docker().await?;
        let there = context.running(&docker, &self.drone).await?;
        let listeners = ports::listeners(&docker, there.container.id(), &there.user).await?;
        let metadata = furnish::metadata(&there.container).unwrap_or_default();
        let ports = ports::of(&listeners, &metadata);
        let way = Way {
            ssh: ssh_command(&context.config, &there.drone, &there.user),
            hostname: hostname(&context.config, &there.drone.identity.name),
            name: there.drone.identity.name.clone(),
        };
        if context.ui.json() {
            context.ui.json_result(&as_json(&ports, &way));
            return Ok(());
        }
        if ports.is_empty() {
            let name = &there.drone.identity.name;
            context.ui.talk(&format!("Nothing is listening in {name}."));
            return Ok(());
        }
        context.ui.table(&table(&ports, &way));
        if let Some(port) = ports.iter().find(|port| way.needs_forwarding(port)) {
            let command = way.forward_here(port);
            context.ui.talk(&format!("On this server use `{command}`."));
        }
        Ok(())
    }
}

/// How a person gets to a drone's ports.
struct Way {
    ssh: String,
    hostname: Option<String>,
    name: DroneName,
}

impl Way {
    /// Where a browser finds it in the tailnet.
    fn url(&self, port: &Port) -> Option<String> {
        let hostname = self.hostname.as_ref()?;
        let is_open = port.reach == Reach::Tailnet;
        is_open.then(|| format!("{}://{hostname}:{}", port.scheme, port.port))
    }

    /// Whether it is reached only where ssh forwards it.
    fn needs_forwarding(&self, port: &Port) -> bool {
        match port.reach {
            Reach::Tailnet => self.url(port).is_none(),
            Reach::Drone | Reach::Sibling => true,
            Reach::Nowhere => false,
        }
    }

    /// The command that brings it to the person's own machine.
    fn forward(&self, port: &Port) -> Option<String> {
        let options = self.ssh.strip_prefix("ssh ")?;
        Some(format!("ssh -L {} {options}", forwarding(port)))
    }

    /// The command that brings it to this server.
    fn forward_here(&self, port: &Port) -> String {
        format!("hatchery ssh -N -L {} {}", forwarding(port), self.name)
    }

    fn words(&self, port: &Port) -> String {
        let forward = self.forward(port).map(|command| format!(": {command}"));
        let forward = forward.unwrap_or_default();
        match port.reach {
            Reach::Tailnet => self.url(port).unwrap_or_else(|| format!("use -L{forward}")),
            Reach::Drone => {
                let all: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
                format!("only listens on {}, use -L{forward}", all.join(" and "))
            }
            Reach::Sibling => format!("in another container, use -L{forward}"),
            Reach::Nowhere => "nothing is listening".to_owned(),
        }
    }
}

fn as_json(ports: &[Port], way: &Way) -> Vec<serde_json::Value> {
    let ports = ports.iter().map(|port| {
        json!({
            "host": port.host,
            "port": port.port,
            "addresses": port.addresses,
            "process": port.process,
            "label": port.label,
            "forwarded": port.forwarded,
            "reach": port.reach,
            "url": way.url(port),
            "ssh": way.forward(port),
            "on_server": way.forward_here(port),
        })
    });
    ports.collect()
}

/// What ssh's -L is told of it.
fn forwarding(port: &Port) -> String {
    let is_localhosts = |address: &IpAddr| {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        address.is_unspecified() || loopback.contains(address)
    };
    // sshd in the drone connects to it.
    let there = match (&port.host, port.addresses.as_slice()) {
        (Some(host), _) => format!("{host}:{}", port.port),
        (None, [one]) if !is_localhosts(one) => SocketAddr::new(*one, port.port).to_string(),
        _ => format!("localhost:{}", port.port),
    };
    let here = match port.port {
        low if low < UNPRIVILEGED => low + RAISED_BY,
        port => port,
    };
    format!("{here}:{there}")
}

fn table(ports: &[Port], way: &Way) -> Table<4> {
    let rows = ports.iter().map(|port| {
        let number = port.port.to_string();
        let host = port.host.as_ref();
        [
            host.map_or_else(|| number.clone(), |host| format!("{host}:{number}")),
            port.process.clone().unwrap_or_default(),
            port.label.clone().unwrap_or_default(),
            way.words(port),
        ]
        .map(Cell::from)
    });
    Table::new(COLUMNS, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::samples::{as_table, is_as_reviewed, told};

    fn ports() -> [Port; 4] {
        let port = |host: Option<&str>, port, reach| Port {
            host: host.map(str::to_owned),
            port,
            addresses: vec!["127.0.0.1".parse().unwrap()],
            process: Some("node".to_owned()),
            label: None,
            scheme: "http",
            forwarded: false,
            reach,
        };
        [
            port(None, 3000, Reach::Tailnet),
            port(None, 80, Reach::Drone),
            port(Some("db"), 5432, Reach::Sibling),
            port(None, 8080, Reach::Nowhere),
        ]
    }

    fn way() -> Way {
        Way {
            ssh: "ssh -p 2222 dev@a-b.tail.example".to_owned(),
            hostname: Some("a-b.tail.example".to_owned()),
            name: DroneName::of(&"a/b".parse().unwrap()),
        }
    }

    #[test]
    fn a_forwarding_leads_to_where_it_listens() {
        let leads = |addresses: &[&str]| {
            let mut port = ports().into_iter().next().unwrap();
            port.addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
            forwarding(&port)
        };
        for (addresses, to) in [
            (&["127.0.0.1"][..], "localhost"),
            (&["0.0.0.0"], "localhost"),
            (&["::1"], "localhost"),
            (&["127.0.0.1", "172.18.0.2"], "localhost"),
            (&["127.0.0.2"], "127.0.0.2"),
            (&["fd00::2"], "[fd00::2]"),
        ] {
            assert_eq!(leads(addresses), format!("3000:{to}:3000"), "{addresses:?}");
        }
    }

    #[test]
    fn ports_are_as_reviewed() {
        let json = told(true, |ui| ui.json_result(&as_json(&ports(), &way())));
        let all = as_table(&table(&ports(), &way())) + &json;
        is_as_reviewed("ports.txt", &all);
    }

    #[test]
    fn each_port_is_told_with_the_way_to_it() {
        let (ports, mut way) = (ports(), way());
        assert_eq!(
            ports.each_ref().map(|port| way.words(port)),
            [
                "http://a-b.tail.example:3000",
                "only listens on 127.0.0.1, use -L: ssh -L 8080:localhost:80 -p 2222 dev@a-b.tail.example",
                "in another container, use -L: ssh -L 5432:db:5432 -p 2222 dev@a-b.tail.example",
                "nothing is listening",
            ]
        );
        assert_eq!(
            ports.each_ref().map(|port| way.needs_forwarding(port)),
            [false, true, true, false]
        );
        assert_eq!(
            ports.each_ref().map(|port| way.forward_here(port))[1..3],
            [
                "hatchery ssh -N -L 8080:localhost:80 a-b",
                "hatchery ssh -N -L 5432:db:5432 a-b",
            ]
        );
        way.hostname = None;
        assert!(way.needs_forwarding(&ports[0]));
        assert_eq!(
            way.words(&ports[0]),
            "use -L: ssh -L 3000:localhost:3000 -p 2222 dev@a-b.tail.example"
        );
    }
}
