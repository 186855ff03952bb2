//! Private images are for the repositories that the configuration names.

use hatchery::devcontainer::Kind;
use hatchery::error::Code;

use crate::common::{World, config};

const FILE: &str = ".devcontainer/devcontainer.json";
const DOCKERFILE: &str = r#"{"build": {"dockerfile": "Dockerfile"}}"#;
const COMPOSE: &str =
    r#"{"dockerComposeFile": "compose.yml", "service": "app", "workspaceFolder": "/w"}"#;

/// The same world, where these repositories may use the images of `ghcr.io/acme`.
fn for_these(mut world: World, repositories: &str) -> World {
    world.config = config(&format!(
        "[registries.\"ghcr.io/acme\"]\nrepositories = [{repositories}]\n"
    ));
    world
}

/// A world for each place in which a repository may name an image; where that is.
fn naming(image: &str) -> Vec<(World, String)> {
    let world = |devcontainer: &str, file: &str, text: String| {
        let path = format!(".devcontainer/{file}");
        let text = text.replace("IMAGE", image);
        World::new(&[
            (FILE, &devcontainer.replace("IMAGE", image)),
            (&path, &text),
        ])
    };
    let dockerfile = |text: &str| world(DOCKERFILE, "Dockerfile", text.to_owned());
    let compose = |text: &str| world(COMPOSE, "compose.yml", text.to_owned());
    let composed = compose("services:\n  app: {build: {context: .}}\n");
    composed.write(".devcontainer/Dockerfile", &format!("FROM {image}\n"));
    vec![
        (
            World::devcontainer(&format!("{{\n\"image\": \"{image}\"}}")),
            format!("{FILE}:2"),
        ),
        (
            dockerfile("FROM IMAGE\n"),
            ".devcontainer/Dockerfile:1".into(),
        ),
        (
            dockerfile("ARG B=IMAGE\nFROM $B\n"),
            ".devcontainer/Dockerfile:2".into(),
        ),
        (
            dockerfile("FROM debian\nCOPY --from=IMAGE / /\n"),
            ".devcontainer/Dockerfile:2".into(),
        ),
        (
            dockerfile("FROM debian\n\nRUN --mount=type=bind,from=IMAGE,target=/x id\n"),
            ".devcontainer/Dockerfile:3".into(),
        ),
        (
            world(
                "{\"build\": {\"dockerfile\": \"Dockerfile\",\n\"cacheFrom\": \"IMAGE\"}}",
                "Dockerfile",
                "FROM debian\n".into(),
            ),
            format!("{FILE}:2"),
        ),
        (
            compose("services:\n  app: {image: debian}\n  db:\n    image: IMAGE\n"),
            ".devcontainer/compose.yml:4".into(),
        ),
        (composed, ".devcontainer/Dockerfile:1".into()),
    ]
}

#[test]
fn a_repository_that_is_not_named_is_refused_wherever_it_names_the_image() {
    for image in ["ghcr.io/acme/base:1", "ghcr.io/acme/deep/base@sha256:0123"] {
        for (world, place) in naming(image) {
            let world = for_these(world, "\"acme/other\", \"others/*\"");
            for trusted in [false, true] {
                let judged = world.judge(trusted);
                let found: Vec<_> = judged
                    .findings
                    .iter()
                    .filter(|found| found.kind() == Kind::Lacking)
                    .map(ToString::to_string)
                    .collect();
                let [found] = found.as_slice() else {
                    panic!("{place}: {:?}", judged.findings);
                };
                assert!(found.starts_with(&format!("{place}: ")), "{place}: {found}");
                assert!(found.contains(image), "{found}");
                let error = judged.verdict.unwrap_err();
                assert_eq!(error.code(), Code::GateRefused, "{}", error.message());
                let hint = error.what_next().unwrap();
                assert!(
                    hint.contains("add \"acme/site\" to `repositories`"),
                    "{hint}"
                );
                assert!(hint.contains("[registries.\"ghcr.io/acme\"]"), "{hint}");
                assert!(!hint.contains("--trust"), "{hint}");
            }
        }
    }
}

#[test]
fn one_that_is_named_passes_and_tells_what_is_to_be_pulled() {
    let image = "ghcr.io/acme/base:1";
    for (world, place) in naming(image) {
        let world = for_these(world, "\"Acme/*\"");
        let read = world.read();
        let read = read.unwrap_or_else(|error| panic!("{place}: {}", error.message()));
        // What may stand in for a step need not be there.
        let is_base = !world
            .checkout()
            .join(FILE)
            .to_str()
            .is_some_and(|file| std::fs::read_to_string(file).unwrap().contains("cacheFrom"));
        assert_eq!(read.bases().any(|base| base == image), is_base, "{place}");
    }
}

#[test]
fn what_lies_beside_is_anyones() {
    for image in [
        "ghcr.io/acme-x/base:1",
        "ghcr.io/other/base",
        "acme/base",
        "debian",
    ] {
        for (world, place) in naming(image) {
            let read = for_these(world, "\"acme/other\"").read();
            assert!(read.is_ok(), "{place}: {image}");
        }
    }
}

#[test]
fn the_configured_image_is_for_those_that_are_named_too() {
    let entry = "[devcontainer]\nimage = \"ghcr.io/acme/base:1\"\n[registries.\"ghcr.io/acme\"]\n";
    for (repositories, passes) in [("\"acme/other\"", false), ("\"acme/site\"", true)] {
        let mut world = World::new(&[]);
        world.config = config(&format!("{entry}repositories = [{repositories}]\n"));
        let read = world.read();
        assert_eq!(read.is_ok(), passes, "{repositories}");
        if let Ok(read) = read {
            assert_eq!(read.bases().collect::<Vec<_>>(), ["ghcr.io/acme/base:1"]);
        }
    }
}
