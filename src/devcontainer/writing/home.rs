//! Volumes in the user's home: directories that outlive a container.

use std::path::{Component, Path};

use serde_json::{Map, Value, json};

use crate::config::{Config, InHome};
use crate::drone::DroneName;

/// The longest home that anything is mounted in, in characters.
const MAX_HOME: usize = 200;

/// A volume in the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeMount {
    /// The volume's name.
    pub volume: String,
    /// Where it is mounted.
    pub target: String,
    /// Whether other drones have it too.
    pub is_shared: bool,
}

impl HomeMount {
    /// Those of this drone. `home` is the home directory of its remote user.
    pub fn all(config: &Config, drone: &DroneName, home: &str) -> Vec<Self> {
        let home = home.trim_end_matches('/');
        let own = config.devcontainer.home.iter().map(|path| Self {
            volume: format!("{drone}.home.{}", path.in_a_name()),
            target: format!("{home}/{}", path.as_str()),
            is_shared: false,
        });
        let shared = config.devcontainer.mounts.iter();
        let shared = shared.map(|(name, InHome(path))| Self {
            volume: name.in_docker(),
            target: format!("{home}/{}", path.as_str()),
            is_shared: true,
        });
        own.chain(shared).collect()
    }

    /// The text for `--mount`. Docker copies what the image has there into a new volume.
    pub(super) fn to_text(&self) -> String {
        format!("type=volume,source={},target={}", self.volume, self.target)
    }

    /// In compose's long form, by the name that [`Self::declare`] gives it.
    pub(super) fn to_compose(&self) -> Value {
        json!({"type": "volume", "source": self.volume, "target": self.target})
    }

    /// Declares the volume in a compose file under its own name; compose would put the project's name before
    /// it.
    pub(super) fn declare(&self, volumes: &mut Map<String, Value>) {
        let mut declared = json!({"name": self.volume});
        if self.is_shared {
            // What compose makes goes with the project.
            declared["external"] = json!(true);
        }
        volumes.insert(self.volume.clone(), declared);
    }
}

/// Whether volumes can be mounted in this home, which an image names.
pub fn takes_mounts(home: &str) -> bool {
    let mut parts = Path::new(home).components();
    home.len() <= MAX_HOME
        && home
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        && parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_the_drones_own_and_lies_in_the_home() {
        let text = "[devcontainer]\nhome = [\".claude\", \".config/gh_x\"]";
        let config = Config::parse(text, "config.toml".as_ref()).unwrap();
        let drone = DroneName::of(&"acme/site".parse().unwrap());
        let all = HomeMount::all(&config, &drone, "/home/dev/");
        let shown: Vec<_> = all.iter().map(|it| (&*it.volume, &*it.target)).collect();
        assert_eq!(
            shown,
            [
                ("acme-site.home..claude", "/home/dev/.claude"),
                ("acme-site.home..config_sgh_ux", "/home/dev/.config/gh_x"),
            ]
        );
        assert!(all.iter().all(|it| drone.owns("?", &it.volume)));
        assert_eq!(
            all[0].to_text(),
            "type=volume,source=acme-site.home..claude,target=/home/dev/.claude"
        );
    }

    #[test]
    fn a_home_that_would_be_more_than_a_path_takes_none() {
        for (home, takes) in [
            ("/root", true),
            ("/home/dev", true),
            ("/", false),
            ("//", false),
            ("", false),
            ("home", false),
            ("/home/..", false),
            ("/home/a,source=x", false),
            ("/home/${x}", false),
            ("/home/a b", false),
        ] {
            assert_eq!(takes_mounts(home), takes, "{home}");
        }
    }
}
