//! How often Docker may run a container's own check: each run is a process that Docker starts.

use bollard::models::HealthConfig;

/// The shortest time between two checks, in nanoseconds.
const BETWEEN: i64 = 5_000_000_000;

/// The shortest duration that Docker takes in a health check, in nanoseconds.
const SHORTEST: i64 = 1_000_000;

/// The check, no more often than once in five seconds. 0 is Docker's default, which is longer.
pub fn bounded(check: HealthConfig) -> HealthConfig {
    let least =
        |given: Option<i64>| given.map(|given| if given == 0 { 0 } else { given.max(BETWEEN) });
    HealthConfig {
        interval: least(check.interval),
        start_interval: least(check.start_interval),
        ..check
    }
}

/// Whether this interval, in nanoseconds, is too short. 0 is Docker's default.
fn is_often(interval: Option<i64>) -> bool {
    interval.is_some_and(|interval| (1..BETWEEN).contains(&interval))
}

/// Whether a check, as Docker shows it, runs no more often than once in five seconds.
pub fn is_bounded(check: &HealthConfig) -> bool {
    let starts = check.start_period.is_some_and(|period| period > SHORTEST);
    !(is_often(check.interval) || starts && is_often(check.start_interval))
}

/// The check to give to a container so that its image's intervals, which count where its `own` check has none,
/// are not too short; `None` if nothing needs to change.
pub fn of_image(image: Option<&HealthConfig>, own: Option<&HealthConfig>) -> Option<HealthConfig> {
    let image = image?;
    // An interval that the container does not name is the image's.
    let mut check = own.cloned().unwrap_or_default();
    for (is, of_image) in [
        (&mut check.interval, image.interval),
        (&mut check.start_interval, image.start_interval),
    ] {
        if is.is_none_or(|is| is == 0) && is_often(of_image) {
            *is = Some(BETWEEN);
        }
    }
    // Older versions of the API know no interval for the start, so that the image's would count: the
    // start is made as short as Docker takes it.
    if is_often(image.start_interval) {
        check.start_period = Some(SHORTEST);
    }
    (Some(&check) != own && check != HealthConfig::default()).then_some(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(interval: i64) -> HealthConfig {
        HealthConfig {
            interval: Some(interval),
            ..HealthConfig::default()
        }
    }

    #[test]
    fn no_check_runs_more_often_than_every_five_seconds() {
        for (given, becomes) in [
            (0, 0),
            (1, BETWEEN),
            (BETWEEN, BETWEEN),
            (3 * BETWEEN, 3 * BETWEEN),
        ] {
            assert_eq!(bounded(every(given)).interval, Some(becomes), "{given}");
        }
        let start = HealthConfig {
            start_interval: Some(1),
            ..every(0)
        };
        assert_eq!(bounded(start).start_interval, Some(BETWEEN));
    }

    #[test]
    fn an_images_check_is_slowed_down_and_no_other_is_touched() {
        assert_eq!(of_image(None, None), None);
        assert_eq!(of_image(Some(&every(0)), None), None);
        assert_eq!(of_image(Some(&every(3 * BETWEEN)), None), None);
        assert_eq!(of_image(Some(&every(1)), None), Some(every(BETWEEN)));
        assert_eq!(of_image(Some(&every(1)), Some(&every(2 * BETWEEN))), None);
        assert_eq!(
            of_image(Some(&every(1)), Some(&every(0))),
            Some(every(BETWEEN))
        );
        let start = HealthConfig {
            start_interval: Some(1),
            start_period: Some(i64::MAX),
            ..every(0)
        };
        let slowed = of_image(Some(&start), None).unwrap();
        assert_eq!(slowed.start_period, Some(SHORTEST));
        assert_eq!(slowed.start_interval, Some(BETWEEN));
    }
}
