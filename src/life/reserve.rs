//! What is left free on Docker's disk, so that the drones which are there have room.

use std::path::Path;

use bytesize::ByteSize;

use crate::config::Limits;
use crate::docker::Machine;
use crate::error::{Code, Error, Result};
use crate::host;

/// What is free, if it is less than `limits.reserve`. Docker may keep its data where this server's
/// people cannot look, or on another machine: then nothing is known.
pub fn too_little(limits: &Limits, machine: &Machine) -> Option<ByteSize> {
    let free = host::free_space(Path::new(&machine.directory)).map(ByteSize::b);
    free.filter(|free| *free < limits.reserve)
}

/// Refuses where less than `limits.reserve` is free.
pub fn is_left(limits: &Limits, machine: &Machine) -> Result<()> {
    match too_little(limits, machine) {
        Some(free) => Err(Error::new(
            Code::DiskFull,
            format!(
                "only {} are free in {}, and limits.reserve is {}",
                free.display().iec(),
                machine.directory,
                limits.reserve.display().iec()
            ),
        )
        .hint(
            "free some space: `docker system df` shows what uses it, `hatchery slay org/repo` removes a \
             drone",
        )),
        None => Ok(()),
    }
}
