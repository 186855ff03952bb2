//! Which node is whose, and which name it has. A drone can call its node whatever it likes: its own
//! node is the one whose key was registered for it from outside.

use std::collections::{HashMap, HashSet};

use super::headscale::{Headscale, Node, name_held};
use crate::drone::DroneName;
use crate::error::{Code, Error, Result};

/// How often a name is taken from another node before that is given up.
const ATTEMPTS: usize = 5;
/// How often a drone that calls its node by another drone's name gets its own name back, within one
/// attempt to have that name. After that its node is deleted: it takes the name over and over.
const PATIENCE: usize = 2;
/// The longest name of a node (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;

/// Which of this server's drones a node key was registered for.
#[derive(Debug, Clone, Default)]
pub struct Owners(HashMap<String, DroneName>);

impl FromIterator<(String, DroneName)> for Owners {
    /// From node keys (`nodekey:…`) and the drones that they were registered for.
    fn from_iter<T: IntoIterator<Item = (String, DroneName)>>(keys: T) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl Owners {
    /// The drone whose node this is, whatever it is called.
    pub fn of(&self, node: &Node) -> Option<&DroneName> {
        self.0.get(&node.node_key)
    }

    /// Whether a key is known of this drone.
    fn know(&self, drone: &DroneName) -> bool {
        self.0.values().any(|name| name == drone)
    }
}

/// Where a drone's node is among those that the control server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is there under the drone's name.
    Own,
    /// It is there under another name.
    Renamed,
    /// It is not there.
    Absent,
}

impl Place {
    /// The place of this drone's node. Where its key is not known the name decides, if `ours` says
    /// that the node that has it may be the drone's.
    pub fn of(
        nodes: &[Node],
        name: &DroneName,
        owners: &Owners,
        ours: impl Fn(&Node) -> bool,
    ) -> Self {
        if let Some(own) = nodes.iter().find(|node| owners.of(node) == Some(name)) {
            return if own.is_called(name) {
                Self::Own
            } else {
                Self::Renamed
            };
        }
        let by_name = |node: &Node| node.is_called(name) && owners.of(node).is_none() && ours(node);
        if !owners.know(name) && nodes.iter().any(by_name) {
            Self::Own
        } else {
            Self::Absent
        }
    }
}

impl Headscale {
    /// Makes the name free for a node that is still to be registered. What the drone had before is
    /// deleted, under whatever name, and so is a node of our user that is nobody's. Another drone's
    /// node gets its own name back. A node of another user is an error: the name cannot be had.
    pub async fn free(&self, name: &DroneName, owners: &Owners) -> Result<()> {
        for attempt in 0..ATTEMPTS {
            let nodes = self.nodes().await?;
            for node in nodes.iter().filter(|node| owners.of(node) == Some(name)) {
                self.delete(node.id).await?;
            }
            let others = nodes.iter().filter(|node| owners.of(node) != Some(name));
            let Some(holder) = others.clone().find(|node| node.is_called(name)) else {
                return Ok(());
            };
            self.evict(name, holder, &nodes, owners, attempt).await?;
        }
        Err(self.fought_over(name))
    }

    /// Gives the name to the node with this key, and takes it from the one that has it as
    /// [`Headscale::free`] does.
    pub async fn give(&self, name: &DroneName, node_key: &str, owners: &Owners) -> Result<()> {
        let mut refused = None;
        for attempt in 0..ATTEMPTS {
            let nodes = self.nodes().await?;
            let Some(own) = nodes.iter().find(|node| node.node_key == node_key) else {
                return Err(self
                    .refused(&format!("no longer knows the node of {name}"))
                    .hint("try again"));
            };
            if own.is_called(name) {
                return Ok(());
            }
            if let Some(holder) = nodes.iter().find(|node| node.is_called(name)) {
                self.evict(name, holder, &nodes, owners, attempt).await?;
            }
            match self.rename(own.id, name.as_str()).await {
                // Another node may have been quicker.
                Err(error) if error.code() == Code::TailnetRefused => refused = Some(error),
                renamed => return renamed,
            }
        }
        Err(refused.unwrap_or_else(|| self.fought_over(name)))
    }

    /// Gives the drone's own node the drone's name.
    pub async fn give_back(&self, name: &DroneName, owners: &Owners) -> Result<()> {
        let keys = owners.0.iter();
        let own = keys.clone().find(|(_, drone)| *drone == name);
        match own {
            Some((key, _)) => self.give(name, key, owners).await,
            None => Ok(()),
        }
    }

    /// Removes the drone's node, whatever it is called, and a node of our user that has the drone's
    /// name and is no other drone's; whether there was one.
    pub async fn remove(&self, name: &DroneName, owners: &Owners) -> Result<bool> {
        let mut any = false;
        for node in self.nodes().await? {
            let is_its = match owners.of(&node) {
                Some(drone) => drone == name,
                None => node.is_called(name) && node.owner() == self.user(),
            };
            if is_its {
                any |= self.delete(node.id).await?;
            }
        }
        Ok(any)
    }

    /// Takes the name from the node that has it. Where that was refused, the caller looks again.
    async fn evict(
        &self,
        name: &DroneName,
        holder: &Node,
        nodes: &[Node],
        owners: &Owners,
        attempt: usize,
    ) -> Result<()> {
        match owners.of(holder) {
            Some(thief) if thief != name && attempt < PATIENCE => {
                match self.rename(holder.id, &free_name(thief, nodes)).await {
                    Err(error) if error.code() == Code::TailnetRefused => Ok(()),
                    renamed => renamed,
                }
            }
            None if holder.owner() != self.user() => Err(name_held(name, holder)),
            _ => self.delete(holder.id).await.map(drop),
        }
    }

    fn fought_over(&self, name: &DroneName) -> Error {
        self.refused(&format!(
            "has given the name {name} to other nodes {ATTEMPTS} times"
        ))
        .hint(
            "`headscale nodes list` shows which nodes keep changing their names; slay their drones",
        )
    }
}

/// The drone's name, or where another node has it, the name with the first number that is free.
fn free_name(drone: &DroneName, nodes: &[Node]) -> String {
    let taken: HashSet<_> = nodes.iter().map(|node| node.given_name.as_str()).collect();
    let numbered = (1..).map(|number| {
        let number = format!("-{number}");
        let room = MAX_NAME.saturating_sub(number.len());
        drone.as_str().chars().take(room).collect::<String>() + &number
    });
    std::iter::once(drone.to_string())
        .chain(numbered)
        .find(|name| !taken.contains(name.as_str()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::config::Tailnet;

    fn drone(repo: &str) -> DroneName {
        DroneName::of(&repo.parse().unwrap())
    }

    fn node(id: u64, name: &str) -> Node {
        let json = serde_json::json!({
            "id": id, "givenName": name, "nodeKey": format!("nodekey:{id}"), "user": {"id": 1, "name": "u"},
        });
        serde_json::from_value(json).unwrap()
    }

    fn owners(keys: &[(u64, &str)]) -> Owners {
        let keys = keys.iter();
        keys.map(|(id, repo)| (format!("nodekey:{id}"), drone(repo)))
            .collect()
    }

    #[test]
    fn a_drones_node_is_known_by_its_key() {
        let site = drone("acme/site");
        let known = owners(&[(1, "acme/site"), (2, "acme/web")]);
        let place = |nodes: &[Node], owners| Place::of(nodes, &site, owners, |_| true);
        assert_eq!(place(&[node(1, "acme-site")], &known), Place::Own);
        assert_eq!(place(&[node(1, "other")], &known), Place::Renamed);
        // Another drone's, or nobody's, that has the name.
        for thief in [2, 3] {
            assert_eq!(place(&[node(thief, "acme-site")], &known), Place::Absent);
            let both = [node(thief, "acme-site"), node(1, "acme-site-1")];
            assert_eq!(place(&both, &known), Place::Renamed);
        }
    }

    #[test]
    fn a_drone_whose_key_is_not_known_has_the_node_of_its_name() {
        let site = drone("acme/site");
        let known = owners(&[(2, "acme/web")]);
        for (id, ours, place) in [
            (1, true, Place::Own),
            (1, false, Place::Absent),
            (2, true, Place::Absent),
        ] {
            let nodes = [node(id, "acme-site")];
            assert_eq!(Place::of(&nodes, &site, &known, |_| ours), place, "{id}");
        }
    }

    #[test]
    fn a_node_that_cannot_have_its_own_name_gets_one_that_nobody_has() {
        let site = drone("acme/site");
        assert_eq!(free_name(&site, &[node(1, "other")]), "acme-site");
        let nodes = [node(1, "acme-site"), node(2, "acme-site-1")];
        assert_eq!(free_name(&site, &nodes), "acme-site-2");
        let long = drone(&format!("acme/{}", "x".repeat(80)));
        let name = free_name(&long, &[node(1, long.as_str())]);
        assert!(name.len() == MAX_NAME && name.ends_with("-1"), "{name}");
    }

    /// A control server at which a node takes its name again as soon as it is renamed; the paths and
    /// methods of what was asked, and the server.
    async fn fought_over(thief: Node) -> (Headscale, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        let listed = serde_json::json!({"nodes": [{
            "id": thief.id, "givenName": thief.given_name, "nodeKey": thief.node_key,
            "user": {"id": 1, "name": "u"},
        }]});
        tokio::spawn(async move {
            let mut deleted = false;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let mut header = String::new();
                while stream.read_line(&mut header).await.unwrap() > 2 {
                    header.clear();
                }
                deleted |= line.starts_with("DELETE");
                let body = if deleted { "{}" } else { &listed.to_string() };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let what = line.split(" HTTP").next().unwrap_or_default();
                heard.lock().unwrap().push(what.replace("/api/v1/", ""));
            }
        });
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "hskey-api-x").unwrap();
        let tailnet = Tailnet {
            login_server: server.parse().unwrap(),
            domain: "t.example".into(),
            user: "u".into(),
            auth_key_file: None,
            api_key_file: Some(key.path().to_owned()),
        };
        (Headscale::new(&tailnet).unwrap().unwrap(), asked)
    }

    #[tokio::test]
    async fn a_drone_that_takes_a_name_over_and_over_loses_its_node() {
        let (api, asked) = fought_over(node(2, "acme-site")).await;
        let owners = owners(&[(2, "acme/web")]);
        api.free(&drone("acme/site"), &owners).await.unwrap();
        let rename = ["GET node", "POST node/2/rename/acme-web"];
        let delete = ["GET node", "DELETE node/2"];
        let expected = [&rename[..], &rename, &delete, &["GET node"]].concat();
        assert_eq!(*asked.lock().unwrap(), expected);
    }
}
