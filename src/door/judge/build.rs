//! A build, as far as it can be judged by the request that begins it.
//!
//! The classic builder gets everything in this request. `BuildKit` gets most over the session that follows,
//! which cannot be judged; so the builder's arguments are held against the policy before it runs.

use bollard::models::ResourcesUlimits;

use super::{Bounds, host};
use crate::devcontainer::judging::images;
use crate::door::call::Query;
use crate::door::stop::{Judged, Stop};

/// Parameters of a build (Docker's Engine API, "Build an image", and what docker's own command
/// sends beside those).
pub const PARAMETERS: &[&str] = &[
    "buildargs",
    "buildid",
    "cachefrom",
    "cgroupparent",
    "cpuperiod",
    "cpuquota",
    "cpusetcpus",
    "cpusetmems",
    "cpushares",
    "dockerfile",
    "extrahosts",
    "forcerm",
    "isolation",
    "labels",
    "memory",
    "memswap",
    "networkmode",
    "nocache",
    "outputs",
    "platform",
    "pull",
    "q",
    "remote",
    "rm",
    "securityopt",
    "session",
    "shmsize",
    "squash",
    "t",
    "target",
    "ulimits",
    "version",
];

/// Parameters that must not be set: they hand over a part of the host, or take the result elsewhere.
const UNSAID: &[&str] = &[
    "cgroupparent",
    "cpuperiod",
    "cpuquota",
    "cpusetcpus",
    "cpusetmems",
    "cpushares",
    "isolation",
    "memory",
    "memswap",
    "outputs",
    "securityopt",
    "squash",
];

/// Judges a build by its parameters: a name of the drone's own, the client's own files, no network
/// but the usual one.
pub fn build(query: &Query, bounds: &Bounds) -> Judged<()> {
    let refused = |what: String| Err(Stop::Refused(what));
    if !bounds.builds {
        return refused("a build that is not its own builder's".to_owned());
    }
    let mut tags = query.all("t").filter(|tag| !tag.is_empty());
    if let Some(tag) = tags.find(|tag| !images::is_own_tag(&bounds.identity.name, tag)) {
        return refused(format!("its image called {tag:.200?}"));
    }
    let said = |name: &'static str| query.get(name).filter(|value| !is_none(name, value));
    if let Some(network) = said("networkmode")
        && !matches!(network, "default" | "none")
    {
        return refused(format!("a build in the network {network:.80?}"));
    }
    let most = bounds.limits.memory.as_u64();
    if let Some(size) = said("shmsize")
        && !size.parse().is_ok_and(|size: u64| size <= most)
    {
        return refused(format!("a build with shmsize={size:.80?}"));
    }
    // A Dockerfile or repository that Docker itself would fetch.
    if let Some(remote) = said("remote")
        && remote != "client-session"
    {
        return refused(format!("a build of {remote:.200?}"));
    }
    if let Some(given) = said("ulimits") {
        let given: Vec<ResourcesUlimits> = serde_json::from_str(given)
            .map_err(|error| Stop::Malformed(format!("ulimits: {error}")))?;
        if let Some(what) = host::ulimits(&given) {
            return refused(what);
        }
    }
    match UNSAID.iter().find_map(|name| Some((name, said(name)?))) {
        Some((name, value)) => refused(format!("a build with {name}={value:.80?}")),
        None => Ok(()),
    }
}

/// Whether this is what clients send for a parameter that is not set. For processors and banks of memory, 0 is
/// the first one.
fn is_none(name: &str, value: &str) -> bool {
    if name.starts_with("cpuset") {
        return value.is_empty();
    }
    matches!(
        value,
        "" | "0" | "false" | "False" | "null" | "None" | "[]" | "{}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::call::Call;
    use crate::door::judge::tests::bounds;
    use hyper::Method;

    fn judged(query: &str) -> Judged<()> {
        let target = format!("/v1.45/build?{query}").parse().unwrap();
        let call = Call::read(&Method::POST, &target)?;
        build(&call.query, &bounds())
    }

    #[test]
    fn what_docker_and_compose_send_passes() {
        for query in [
            "buildargs=%7B%7D&cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&cpuquota=0&cpusetcpus=&cpusetmems=&cpushares=0\
             &dockerfile=Dockerfile&labels=%7B%7D&memory=0&memswap=0&networkmode=default&rm=1&shmsize=0\
             &t=vsc-site-0123-features&target=&ulimits=null&version=1",
            "remote=client-session&session=abc&version=2&buildid=x&t=dev_container_feature_content_temp-acme-site",
            "t=hatchery.invalid%2Facme-site%2Fsecret%3Adb&q=False&nocache=False&rm=True&forcerm=False&pull=False",
            "t=&outputs=%5B%5D&networkmode=none",
        ] {
            assert_eq!(judged(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn nothing_of_the_host_and_no_name_of_anothers_does() {
        for query in [
            "t=debian%3A12",
            "t=vsc-x&t=debian",
            "t=hatchery.invalid%2Facme-other%2Fx%3Adb",
            "t=ghcr.io%2Facme%2Fvsc-x",
            "t=dev_container_feature_content_temp",
            "networkmode=host",
            "networkmode=container%3Ax",
            "remote=https%3A%2F%2Fexample.test%2Fx.git",
            "cgroupparent=%2Fx",
            "memory=-1",
            "cpusetcpus=0",
            "securityopt=%5B%22seccomp%3Dunconfined%22%5D",
            "outputs=%5B%7B%22Type%22%3A%22local%22%7D%5D",
            "isolation=process",
            "ulimits=%5B%7B%22Name%22%3A%22rtprio%22%2C%22Soft%22%3A9%2C%22Hard%22%3A9%7D%5D",
            "shmsize=1099511627776",
            "something=new",
            "networkmode=default&networkmode=host",
        ] {
            assert!(judged(query).is_err(), "{query}");
        }
    }
}
