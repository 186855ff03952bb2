//! Volumes.

use std::collections::HashMap;

use serde_json::Value;

use super::{Bounds, labels};
use crate::door::rewrite::Rewrite;
use crate::door::stop::{Judged, Stop};

/// Judges a request for a new volume of the drone's. Returns its body: a directory of Docker's own.
pub fn volume(body: &[u8], bounds: &Bounds) -> Judged<Value> {
    let mut body = Rewrite::read(body)?;
    let name: String = body.take("Name")?.unwrap_or_default();
    if !bounds.owns(&name) {
        return Err(Stop::Refused(format!("the volume {name:.80?}")));
    }
    body.put("Name", &name)?;
    if let Some(driver) = body.take::<String>("Driver")?
        && !matches!(driver.as_str(), "" | "local")
    {
        return Err(Stop::Refused(format!(
            "volumes of the driver {driver:.40?}"
        )));
    }
    let given: Option<HashMap<String, String>> = body.take("Labels")?;
    body.put("Labels", &labels::given(given.unwrap_or_default(), bounds)?)?;
    body.finish()
}

/// Whether a volume, as Docker shows it, is a directory of Docker's own. With options it could be one of the
/// host's.
pub fn is_plain(volume: &bollard::models::Volume) -> bool {
    volume.driver == "local" && volume.options.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::judge::tests::bounds;
    use serde_json::json;

    #[test]
    fn a_volume_is_the_drones_own_and_plain() {
        let judged = |body: Value| volume(body.to_string().as_bytes(), &bounds());
        let plain = json!({
            "Name": "acme-site_data", "Driver": "local", "DriverOpts": {},
            "Labels": {"com.docker.compose.project": "acme-site"},
        });
        let kept = json!({
            "Name": "acme-site_data", "Labels": {"com.docker.compose.project": "acme-site"},
        });
        assert_eq!(judged(plain), Ok(kept));
        for odd in [
            json!({"Name": "acme-other"}),
            json!({"Name": "acme-site-b"}),
            json!({"Name": "acme-site_x", "Driver": "nfs"}),
            json!({"Name": "acme-site_x", "DriverOpts": {"device": "/"}}),
            json!({"Name": "acme-site_x", "Labels": {"hatchery.drone": "acme-other"}}),
            json!({"Name": "acme-site_x", "ClusterVolumeSpec": {"Group": "x"}}),
            json!({"name": "acme-other"}),
        ] {
            assert!(judged(odd.clone()).is_err(), "{odd}");
        }
    }
}
