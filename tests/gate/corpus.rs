//! Published configurations: none makes the gate panic, and most pass.

use crate::common::World;

#[test]
fn published_configurations_are_taken() {
    let Some(corpus) = std::env::var_os("HATCHERY_CORPUS") else {
        eprintln!("skipped: HATCHERY_CORPUS names no directory of devcontainer.json files");
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
