//! The points at which hatchery can be killed, and the scenario that kills it there.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names in the source, which are those that the variable takes.
fn points(source: &str) -> Vec<&str> {
    let (_, rest) = source.split_once("pub enum Point {").unwrap();
    let (all, _) = rest.split_once("\n}").unwrap();
    all.lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .collect()
}

#[test]
fn the_scenario_kills_a_verb_at_every_point() {
    let (source, scenario) = (read("src/failpoint.rs"), read("tests/scenarios/killed.py"));
    let points = points(&source);
    assert!(points.len() > 40, "{points:?}");
    for point in points {
        assert!(scenario.contains(&format!("\"{point}\"")), "{point}");
    }
}
