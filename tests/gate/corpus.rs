//! Published configurations: none makes the gate panic, most pass, and each gets the verdict that a
//! person expects of it.

use std::path::PathBuf;

use hatchery::error::Code;

use crate::common::World;

/// The directory of published devcontainer.json files, each under a name of its own.
fn corpus() -> Option<PathBuf> {
    let corpus = std::env::var_os("HATCHERY_CORPUS").map(PathBuf::from);
    let corpus = corpus.filter(|corpus| corpus.is_dir());
    if corpus.is_none() {
        eprintln!("skipped: HATCHERY_CORPUS names no directory");
    }
    corpus
}

#[test]
fn published_configurations_are_taken() {
    let Some(corpus) = corpus() else {
        return;
    };
    let (mut passed, mut all) = (0, 0);
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // Templates have placeholders; what lies beside them is not here.
        let text = text
            .replace("${templateOption:", "")
            .replace("Variant}", "");
        if text.contains("\"dockerComposeFile\"") || text.contains("\"./local-features") {
            continue;
        }
        let world = World::new(&[
            (".devcontainer/devcontainer.json", text.as_str()),
            (".devcontainer/Dockerfile", "FROM debian"),
            ("Dockerfile", "FROM debian"),
        ]);
        all += 1;
        match world.read() {
            Ok(repository) => {
                world.prepare(&repository, None);
                for line in repository.left_out() {
                    eprintln!("{}: {line}", path.file_name().unwrap().display());
                }
                passed += 1;
            }
            Err(error) => eprintln!(
                "{}: {}",
                path.file_name().unwrap().display(),
                error.message()
            ),
        }
    }
    eprintln!("{passed} of {all} pass");
    assert!(all > 0);
}

/// What published compose files have in common: the drone's service mounts the directory that holds the
/// repository.
const COMPOSE: &str = "services:\n  app:\n    image: debian\n    volumes:\n      - ../..:/workspaces:cached\n    \
                       command: sleep infinity\n";

#[test]
fn published_configurations_get_the_verdict_that_a_person_expects() {
    let Some(corpus) = corpus() else {
        return;
    };
    let mut differ = Vec::new();
    let mut compared = 0;
    for row in include_str!("corpus.tsv").lines().skip(1) {
        let mut cells = row.split('\t');
        let mut cell = || {
            cells
                .next()
                .unwrap_or_else(|| panic!("too few cells: {row}"))
        };
        let (file, expected, reason) = (cell(), cell(), cell());
        let Ok(text) = std::fs::read_to_string(corpus.join(file)) else {
            eprintln!("{file} is not there");
            continue;
        };
        let world = World::new(&[
            (".devcontainer/devcontainer.json", text.as_str()),
            (".devcontainer/Dockerfile", "FROM debian"),
            (".devcontainer/docker-compose.yml", COMPOSE),
            ("docker-compose.yml", "services: {}\n"),
        ]);
        let (verdict, said) = match world.read() {
            Ok(repository) => ("passes", repository.left_out().join("; ")),
            Err(error) if error.code() == Code::GateRefused => ("refused", error.message()),
            Err(error) => ("invalid", error.message()),
        };
        compared += 1;
        if verdict != expected {
            differ.push(format!(
                "{file}: {verdict}, expected {expected} ({reason}): {said}"
            ));
        }
    }
    assert!(compared > 0, "none of the files is in {}", corpus.display());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
