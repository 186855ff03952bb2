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

#[test]
fn privileges_are_left_out_where_the_runtime_makes_them_needless() {
    let compose = r#"{"dockerComposeFile": "compose.yml", "service": "app"}"#;
    let feature = r#"{"image": "debian", "features": {"./dind": {}}}"#;
    for (files, property) in [
        (
            &[(FILE, r#"{"image": "debian", "privileged": true}"#)][..],
            "privileged",
        ),
        (
            &[(FILE, r#"{"image": "debian", "runArgs": ["--privileged"]}"#)],
            "runArgs",
        ),
        (
            &[
                (FILE, compose),
                (
                    ".devcontainer/compose.yml",
                    "services:\n  app: {image: debian}\n  dind: {image: docker, privileged: true}\n",
                ),
            ],
            "services.dind.privileged",
        ),
        (
            &[
                (FILE, feature),
                (
                    ".devcontainer/dind/devcontainer-feature.json",
                    r#"{"id": "dind", "version": "1.0.0", "name": "d", "privileged": true}"#,
                ),
                (".devcontainer/dind/install.sh", "true"),
            ],
            "privileged",
        ),
    ] {
        let mut world = World::new(files);
        let error = world.refused();
        let hint = error.what_next().unwrap();
        assert!(hint.contains("docker.runtime = \"sysbox-runc\""), "{hint}");
        let found = world.judge(false).findings;
        assert!(found[0].hint().unwrap().contains("sysbox-runc"));
        let passed = world.trusted();
        assert!(passed.is_ok(), "{property}");

        world.config.docker.runtime = Some(hatchery::config::Runtime::Sysbox);
        let judged = world.judge(false);
        let [found] = judged.findings.as_slice() else {
            panic!("{property}: {:?}", judged.findings);
        };
        assert_eq!(found.kind(), Kind::LeftOut, "{property}");
        assert_eq!(found.property(), property);
        assert!(
            found.message().contains("sysbox-runc makes"),
            "{}",
            found.message()
        );
        let written = world.written_from(&judged.verdict.unwrap());
        let composed = written["dockerComposeFile"].is_array();
        let written = if composed { world.composed() } else { written };
        assert!(!written.to_string().contains("privileged"), "{written}");
    }
}

#[test]
fn another_refusal_is_not_said_to_need_a_runtime() {
    let world =
        World::devcontainer(r#"{"image": "debian", "privileged": true, "capAdd": ["SYS_ADMIN"]}"#);
    let error = world.refused();
    assert!(!error.what_next().unwrap().contains("sysbox"));
}
