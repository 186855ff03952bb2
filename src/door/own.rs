//! What belongs to the drone: the containers and commands that this door has seen created.
//!
//! No label decides it. Labels come with images, which are strangers'.

use std::collections::{HashMap, HashSet};

/// The most commands that are remembered; a spawn runs some dozens.
const MAX_EXECS: usize = 10_000;

/// Containers and commands of one drone.
#[derive(Debug, Default)]
pub struct Own {
    /// Names by id.
    containers: HashMap<String, String>,
    execs: HashSet<String>,
    networks: usize,
    volumes: usize,
}

impl Own {
    /// A container that was created. Another of this name is gone then: Docker has each name once.
    pub fn add(&mut self, id: &str, name: &str) {
        self.containers.retain(|_, other| other != name);
        self.containers.insert(id.to_owned(), name.to_owned());
    }

    /// Records a container's new name.
    pub fn rename(&mut self, id: &str, name: &str) {
        if let Some(is) = self.containers.get_mut(id) {
            name.clone_into(is);
        }
    }

    /// The ids of all containers.
    pub fn ids(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    /// Forgets a container that was removed.
    pub fn remove(&mut self, id: &str) {
        self.containers.remove(id);
    }

    /// How many containers there are.
    pub fn containers(&self) -> usize {
        self.containers.len()
    }

    /// The whole id of a container, by its id or its name.
    pub fn exactly(&self, reference: &str) -> Option<&str> {
        let reference = reference.trim_start_matches('/');
        if let Some((id, _)) = self.containers.get_key_value(reference) {
            return Some(id);
        }
        let mut named = self.containers.iter();
        let (id, _) = named.find(|(_, name)| name.as_str() == reference)?;
        Some(id)
    }

    /// As [`Self::exactly`], or by the beginning of its id, if that is unique. Docker must then be asked by the
    /// whole id: to Docker, these letters may be another container's name.
    pub fn container(&self, reference: &str) -> Option<&str> {
        if let Some(id) = self.exactly(reference) {
            return Some(id);
        }
        let mut ids = self.containers.keys();
        let mut begun = ids.by_ref().filter(|id| id.starts_with(reference));
        let first = begun.next().filter(|_| !reference.is_empty())?;
        begun.next().is_none().then_some(first.as_str())
    }

    /// The name of a container.
    pub fn name(&self, id: &str) -> Option<&str> {
        self.containers.get(id).map(String::as_str)
    }

    /// Adds a command that was created in one of the containers. Returns `false` if there are too many.
    pub fn add_exec(&mut self, id: &str) -> bool {
        self.execs.len() < MAX_EXECS && self.execs.insert(id.to_owned())
    }

    /// Whether this command is in one of the containers.
    pub fn has_exec(&self, id: &str) -> bool {
        self.execs.contains(id)
    }

    /// Counts a request for a volume. Returns how many there were with this one.
    pub fn add_volume(&mut self) -> usize {
        self.volumes += 1;
        self.volumes
    }

    /// Counts a request for a network. Returns how many there were with this one.
    pub fn add_network(&mut self) -> usize {
        self.networks += 1;
        self.networks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_by_what_docker_finds_it_by() {
        let mut own = Own::default();
        own.add("0123aa", "acme-site");
        own.add("0123bb", "acme-site-db-1");
        for (reference, id) in [
            ("0123aa", Some("0123aa")),
            ("0123b", Some("0123bb")),
            ("acme-site", Some("0123aa")),
            ("/acme-site-db-1", Some("0123bb")),
            ("0123", None),
            ("", None),
            ("acme-sit", None),
            ("acme-other", None),
        ] {
            assert_eq!(own.container(reference), id, "{reference}");
        }
        for begun in ["0123b", "acme", ""] {
            assert_eq!(own.exactly(begun), None, "{begun}");
        }
        for whole in ["0123bb", "/acme-site-db-1"] {
            assert_eq!(own.exactly(whole), Some("0123bb"));
        }
        own.add("4567cc", "acme-site");
        assert_eq!(own.container("acme-site"), Some("4567cc"));
        assert_eq!(own.container("0123aa"), None);
        own.remove("4567cc");
        assert_eq!(own.container("acme-site"), None);
        assert_eq!(own.container("0123"), Some("0123bb"));
    }
}
