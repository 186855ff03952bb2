//! This server, as whoever works on a drone needs it.

use crate::config::Config;
use crate::docker::{Addresses, Docker};
use crate::host::Places;
use crate::sockets::Sockets;
use crate::ui::Ui;

/// What a drone is worked on with.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Its Docker.
    pub docker: &'a Docker,
    /// What is in force.
    pub config: &'a Config,
    /// Where things are kept.
    pub places: &'a Places,
    /// Who serves the drones' sockets.
    pub sockets: &'a Sockets<'a>,
    /// Where words go.
    pub ui: &'a Ui,
}

impl Server<'_> {
    /// Where drones' networks get their addresses from.
    pub fn addresses(&self) -> Addresses {
        Addresses::new(self.config.docker.subnets.clone(), self.places.clone())
    }
}
