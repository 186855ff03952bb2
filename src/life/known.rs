//! What a drone is, with what this server knows of it beside Docker.

use crate::docker::{Drone, Life};
use crate::host::Places;

/// A volume without a container is an egg only where nobody can have worked in it, and a container that a
/// rebuild has not finished is none.
pub fn known(places: &Places, mut drone: Drone) -> Drone {
    let name = &drone.identity.name;
    drone.life = match drone.life {
        Life::Bare if places.is_egg(name) => Life::Egg,
        Life::Egg if places.is_rebuild(name) && !places.is_egg(name) => Life::Bare,
        life => life,
    };
    drone
}
