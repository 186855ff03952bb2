//! What the gate finds, as data: the same that its errors and warnings say.

use hatchery::devcontainer::Kind;
use hatchery::docker::Machine;
use hatchery::error::Code;

use crate::common::World;

const FILE: &str = ".devcontainer/devcontainer.json";

#[test]
fn each_finding_has_its_place_its_property_and_its_kind() {
    let mut world = World::devcontainer(
        "{\n  \"image\": \"debian\",\n  \"privileged\": true,\n  \"init\": 7,\n  \"appPort\": 80,\n  \
         \"mounts\": [\"source=${localWorkspaceFolder}/db,target=/db,type=bind\"]\n}",
    );
    world.docker = Machine {
        version: "24.0.7".into(),
        ..Machine::default()
    };
    let judged = world.judge(false);
    let found: Vec<_> = judged
        .findings
        .iter()
        .map(|found| (found.kind(), found.line(), found.property()))
        .collect();
    for expected in [
        (Kind::Refused, 3, "privileged"),
        (Kind::Wrong, 4, "init"),
        (Kind::LeftOut, 5, "appPort"),
        (Kind::Lacking, 6, "mounts"),
    ] {
        assert!(
            found.contains(&expected),
            "{expected:?} is not in {found:?}"
        );
    }
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(judged.file.as_deref(), Some(FILE));
    for finding in &judged.findings {
        assert_eq!(finding.file(), FILE);
        let hint = finding.hint().unwrap_or_default();
        assert_eq!(finding.kind() == Kind::LeftOut, hint.is_empty(), "{hint}");
        assert_eq!(finding.kind() == Kind::Refused, hint.contains("--trust"));
    }

    // The error says no more and no less.
    let error = judged.verdict.unwrap_err();
    assert_eq!(error.code(), Code::DevcontainerInvalid);
    let said = |kind| {
        let found = judged.findings.iter().find(|found| found.kind() == kind);
        found.unwrap().to_string()
    };
    assert_eq!(
        error.message(),
        format!(
            "{}; the gate refuses {}; {}",
            said(Kind::Wrong),
            said(Kind::Refused),
            said(Kind::Lacking)
        )
    );
}

#[test]
fn trust_leaves_no_refusal_and_what_is_left_out_is_told() {
    let world = World::devcontainer(r#"{"image": "debian", "privileged": true, "appPort": 80}"#);
    let judged = world.judge(true);
    let repository = judged.verdict.unwrap();
    let said: Vec<_> = judged.findings.iter().map(ToString::to_string).collect();
    assert_eq!(repository.left_out(), said);
    assert_eq!(judged.findings[0].kind(), Kind::LeftOut);
}

#[test]
fn a_file_that_cannot_be_read_is_a_finding_with_its_line() {
    let compose = r#"{"dockerComposeFile": "compose.yml", "service": "app", "privileged": true}"#;
    for (files, file, line, says) in [
        (
            &[(FILE, "{\n  \"image\": \n}")][..],
            FILE,
            3,
            "Unexpected close brace",
        ),
        (&[(FILE, "")], FILE, 1, "the file is empty"),
        (
            &[(".devcontainer/devcontainer.json/x", "")],
            FILE,
            0,
            "is not a file",
        ),
        (
            &[
                (FILE, compose),
                (".devcontainer/compose.yml", "services:\n  app: [\n"),
            ],
            ".devcontainer/compose.yml",
            2,
            "",
        ),
    ] {
        let world = World::new(files);
        let judged = world.judge(false);
        let error = judged.verdict.unwrap_err();
        assert_eq!(error.code(), Code::DevcontainerInvalid);
        let found = judged.findings.last().unwrap();
        assert_eq!(found.kind(), Kind::Wrong);
        assert_eq!(
            (found.file(), found.line()),
            (file, line),
            "{}",
            error.message()
        );
        assert!(found.message().contains(says), "{}", found.message());
        assert!(!found.message().contains(file), "{}", found.message());
        assert!(error.message().ends_with(found.message()));
        assert!(found.hint().is_some());
        // What was found before stays found.
        let refused = |found: &&hatchery::devcontainer::Finding| found.kind() == Kind::Refused;
        let privileged = judged.findings.iter().find(refused);
        assert_eq!(privileged.is_some(), files.len() == 2);
    }
}

#[test]
fn a_choice_that_is_not_there_is_a_finding() {
    let files = [
        ".devcontainer/a/devcontainer.json",
        ".devcontainer/b/devcontainer.json",
    ];
    let world = World::new(&files.map(|file| (file, "{}")));
    let judged = world.judge(false);
    let error = judged.verdict.unwrap_err();
    assert_eq!(error.code(), Code::DevcontainerAmbiguous);
    let [found] = judged.findings.as_slice() else {
        panic!("{:?}", judged.findings);
    };
    assert_eq!(
        (found.kind(), found.file(), found.line()),
        (Kind::Wrong, "", 0)
    );
    assert_eq!(found.to_string(), error.message());
}
