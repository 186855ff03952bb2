//! `hatchery check`, as a person and as CI meet it. Nothing here needs Docker.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

const FILE: &str = ".devcontainer/devcontainer.json";
/// What every run here is configured with: no Docker answers.
const AWAY: &str = "[docker]\nhost = \"unix:///nonexistent/docker.sock\"\n";

struct Place(tempfile::TempDir);

impl Place {
    /// A directory `site` with these files.
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.site()).unwrap();
        std::fs::create_dir(place.0.path().join("home")).unwrap();
        for (file, text) in files {
            let path = place.site().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        place
    }

    fn devcontainer(text: &str) -> Self {
        Self::new(&[(FILE, text)])
    }

    fn site(&self) -> PathBuf {
        self.0.path().join("site")
    }

    fn check_with(&self, config: &str, args: &[&str]) -> Output {
        let path = self.0.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        Command::new(env!("CARGO_BIN_EXE_hatchery"))
            .current_dir(self.site())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.0.path().join("home"))
            .env("XDG_RUNTIME_DIR", self.0.path().join("home"))
            .env("HATCHERY_CONFIG", path)
            .arg("check")
            .args(args)
            .output()
            .unwrap()
    }

    fn check(&self, args: &[&str]) -> Output {
        self.check_with(AWAY, args)
    }

    /// The report, and the exit status.
    fn report(&self, args: &[&str]) -> (Value, i32) {
        let output = self.check(args);
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        (report, output.status.code().unwrap())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const PASSES: &str = "{\n  \"image\": \"debian\"\n}";
const WARNS: &str = "{\n  \"image\": \"debian\",\n  \"appPort\": 80\n}";
const REFUSED: &str = "{\n  \"image\": \"debian\",\n  \"privileged\": true,\n  \"appPort\": 80,\n  \"capAdd\": [\"SYS_ADMIN\"]\n}";
const WRONG: &str = "{\n  \"image\": \"debian\",\n  \"privileged\": true,\n  \"init\": 7\n}";

#[test]
fn a_person_reads_each_finding_with_its_place() {
    for (devcontainer, args, status, said) in [
        (PASSES, &[][..], 0, &["local/site passes."][..]),
        (
            WARNS,
            &[],
            0,
            &[
                "warning: .devcontainer/devcontainer.json:3: appPort is left out: ",
                "local/site passes, with 1 warning.",
            ],
        ),
        (
            REFUSED,
            &[],
            6,
            &[
                ".devcontainer/devcontainer.json:3: privileged true: ",
                ".devcontainer/devcontainer.json:5: capAdd \"SYS_ADMIN\": ",
                "warning: .devcontainer/devcontainer.json:4: appPort is left out: ",
                "  -> remove it from the repository, or trust ",
                "local/site does not pass: 2 findings.",
            ],
        ),
        (
            REFUSED,
            &["--trust"],
            0,
            &["warning: ", "local/site passes, with 1 warning."],
        ),
        (
            WRONG,
            &[],
            1,
            &[
                ".devcontainer/devcontainer.json:3: privileged true: ",
                ".devcontainer/devcontainer.json:4: init must be ",
                "  -> fix it in the repository; ",
                "local/site does not pass: 2 findings.",
            ],
        ),
        (
            "{\n  \"image\"\n}",
            &[],
            1,
            &[
                ".devcontainer/devcontainer.json:",
                "  -> fix it",
                "local/site does not pass: 1 finding.",
            ],
        ),
    ] {
        let place = Place::devcontainer(devcontainer);
        let output = place.check(args);
        let shown = text(&output.stdout);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(output.status.code(), Some(status), "{shown}");
        assert_eq!(lines.len(), said.len(), "{shown}");
        for (line, said) in lines.iter().zip(said) {
            assert!(
                line.starts_with(said),
                "{line:?} does not begin with {said:?}"
            );
        }
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    }
}

#[test]
fn a_script_reads_the_same() {
    for (devcontainer, verdict, kinds, status) in [
        (PASSES, "passes", &[][..], 0),
        (WARNS, "passes", &["left-out"], 0),
        (REFUSED, "refused", &["refused", "refused", "left-out"], 6),
        (WRONG, "invalid", &["refused", "wrong"], 1),
        ("{", "invalid", &["wrong"], 1),
    ] {
        let place = Place::devcontainer(devcontainer);
        let (report, code) = place.report(&["--json"]);
        assert_eq!(code, status, "{report}");
        assert_eq!(report["repository"], "local/site");
        assert_eq!(report["file"], FILE);
        assert_eq!(report["verdict"], verdict, "{report}");
        let findings = report["findings"].as_array().unwrap();
        let found: Vec<_> = findings
            .iter()
            .map(|it| it["kind"].as_str().unwrap())
            .collect();
        assert_eq!(found, kinds, "{report}");
    }
    let (report, _) = Place::devcontainer(REFUSED).report(&["--json"]);
    let first = &report["findings"][0];
    assert_eq!((&first["file"], &first["line"]), (&json!(FILE), &json!(3)));
    assert_eq!(first["property"], "privileged");
    assert!(
        first["message"]
            .as_str()
            .unwrap()
            .starts_with("privileged true: ")
    );
    assert!(first["hint"].as_str().unwrap().contains("--trust"));
    assert_eq!(report["findings"][2]["hint"], Value::Null);
}

/// The parts of SARIF 2.1.0's schema that code scanning reads.
fn schema_of_sarif() -> Value {
    let level = json!({"enum": ["none", "note", "warning", "error"]});
    let text = json!({"type": "object", "required": ["text"], "properties": {
        "text": {"type": "string", "minLength": 1},
    }});
    let location = json!({"type": "object", "required": ["physicalLocation"], "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {"type": "object", "required": ["uri"], "properties": {
                    // A relative reference: no scheme, no root, no way up, nothing unescaped.
                    "uri": {"type": "string", "pattern": "^(?!/)(?!\\.\\./)([A-Za-z0-9._~/-]|%[0-9A-F]{2})+$"},
                    "uriBaseId": {"type": "string"},
                }},
                "region": {"type": "object", "required": ["startLine"], "properties": {
                    "startLine": {"type": "integer", "minimum": 1},
                }},
            },
        },
    }});
    json!({
        "type": "object",
        "required": ["version", "runs", "$schema"],
        "properties": {
            "$schema": {"type": "string"},
            "version": {"const": "2.1.0"},
            "runs": {"type": "array", "minItems": 1, "maxItems": 20, "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": false,
                "properties": {
                    "automationDetails": {
                        "type": "object",
                        "required": ["id"],
                        "additionalProperties": false,
                        "properties": {"id": {"type": "string", "pattern": "^.+/$"}},
                    },
                    "tool": {"type": "object", "required": ["driver"], "properties": {
                        "driver": {
                            "type": "object",
                            "required": ["name", "version", "rules"],
                            "properties": {
                                "name": {"const": "hatchery"},
                                "version": {"const": env!("CARGO_PKG_VERSION")},
                                "rules": {"type": "array", "uniqueItems": true, "items": {
                                    "type": "object",
                                    "required": ["id", "shortDescription", "defaultConfiguration"],
                                    "properties": {
                                        "id": {"type": "string"},
                                        "shortDescription": text,
                                        "defaultConfiguration": {"properties": {"level": level}},
                                    },
                                }},
                            },
                        },
                    }},
                    "results": {"type": "array", "items": {
                        "type": "object",
                        "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                        "additionalProperties": false,
                        "properties": {
                            "ruleId": {"type": "string"},
                            "ruleIndex": {"type": "integer", "minimum": 0},
                            "level": level,
                            "message": text,
                            "locations": {"type": "array", "minItems": 1, "items": location},
                        },
                    }},
                },
            }},
        },
    })
}

#[test]
fn code_scanning_reads_the_same() {
    let compose = "{\n  \"dockerComposeFile\": \"a b:ü.yml\",\n  \"service\": \"app\"\n}";
    let services = "services:\n  app:\n    image: debian\n    privileged: true\n";
    let validator = jsonschema::validator_for(&schema_of_sarif()).unwrap();
    for (files, results) in [
        (&[(FILE, PASSES)][..], &[][..]),
        (&[], &[]),
        (
            &[(FILE, REFUSED)],
            &[
                ("refused", "error", FILE, 3),
                ("refused", "error", FILE, 5),
                ("left-out", "warning", FILE, 4),
            ],
        ),
        (
            &[(FILE, WRONG)],
            &[("refused", "error", FILE, 3), ("wrong", "error", FILE, 4)],
        ),
        (
            &[(FILE, compose), (".devcontainer/a b:ü.yml", services)],
            &[("refused", "error", ".devcontainer/a%20b%3A%C3%BC.yml", 4)],
        ),
        // About no file, and about a file as a whole.
        (
            &[
                (".devcontainer/a/devcontainer.json", ""),
                (".devcontainer/b/devcontainer.json", ""),
            ],
            &[("wrong", "error", FILE, 1)],
        ),
        (
            &[(".devcontainer/devcontainer.json/x", "")],
            &[("wrong", "error", FILE, 1)],
        ),
    ] {
        let place = Place::new(files);
        let (report, code) = place.report(&["--sarif"]);
        let errors: Vec<_> = validator
            .iter_errors(&report)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}\n{report:#}");
        let run = &report["runs"][0];
        let found = run["results"].as_array().unwrap().iter().map(|result| {
            let place = &result["locations"][0]["physicalLocation"];
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(
                run["tool"]["driver"]["rules"][index]["id"],
                result["ruleId"]
            );
            (
                result["ruleId"].as_str().unwrap(),
                result["level"].as_str().unwrap(),
                place["artifactLocation"]["uri"].as_str().unwrap(),
                place["region"]["startLine"].as_u64().unwrap(),
            )
        });
        assert_eq!(found.collect::<Vec<_>>(), results, "{report:#}");
        assert_eq!(code == 0, results.is_empty());
    }
}

#[test]
fn sarif_and_json_are_two_things() {
    let output = Place::devcontainer(PASSES).check(&["--sarif", "--json"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_directory_is_what_is_there_or_written_as_one() {
    let place = Place::devcontainer(PASSES);
    let site = place.site();
    let absolute = site.to_str().unwrap();
    std::fs::create_dir_all(site.join("acme/site")).unwrap();
    for (args, repo) in [
        (&[][..], "local/site"),
        (&["."], "local/site"),
        (&["../site"], "local/site"),
        (&[absolute], "local/site"),
        (&["acme/site"], "local/site"),
        (&["acme"], "local/acme"),
    ] {
        let (report, code) = place.report(&[args, &["--json"]].concat());
        assert_eq!((code, &report["repository"]), (0, &json!(repo)), "{args:?}");
    }
    for args in [["./none"], ["/nonexistent"], [FILE]] {
        let output = place.check(&args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("is not a directory") && said.contains("[usage]"),
            "{said}"
        );
    }
    let output = place.check(&["none"]);
    assert!(text(&output.stderr).contains("[repository-malformed]"));
}

#[test]
fn several_are_checked_in_one_go() {
    let file = |name: &str| format!("{name}/{FILE}");
    let place = Place::new(&[
        (&file("fine"), PASSES),
        (&file("warns"), WARNS),
        (&file("refused"), REFUSED),
        (&file("wrong"), WRONG),
    ]);
    for (whats, status) in [
        (&["fine", "warns"][..], 0),
        (&["fine", "refused", "warns"], 6),
        (&["refused", "wrong", "refused"], 1),
    ] {
        let (reports, ended) = place.report(&[whats, &["--json"]].concat());
        assert_eq!(ended, status, "{whats:?}");
        let reports = reports.as_array().unwrap();
        assert_eq!(reports.len(), whats.len());
        for (report, what) in reports.iter().zip(whats) {
            let (alone, _) = place.report(&[what, "--json"]);
            assert_eq!(*report, alone);
            assert_eq!(report["repository"], format!("local/{what}"));
        }
        let output = place.check(whats);
        let each: Vec<_> = whats
            .iter()
            .map(|what| text(&place.check(&[what]).stdout))
            .collect();
        assert_eq!(text(&output.stdout), each.join("\n"));
        assert_eq!(output.status.code(), Some(status));
    }
    let (sarif, _) = place.report(&["fine", "refused", "--sarif"]);
    let runs = sarif["runs"].as_array().unwrap();
    let categories = runs.iter().map(|run| &run["automationDetails"]["id"]);
    let categories: Vec<_> = categories.map(|id| id.as_str().unwrap()).collect();
    assert_eq!(categories, ["local/fine/", "local/refused/"]);
    assert_eq!(runs[0]["results"], json!([]));
    assert!(jsonschema::is_valid(&schema_of_sarif(), &sarif));

    let output = place.check(&["fine", "./gone"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).contains("./gone is not a directory"));
}

#[test]
fn the_remote_says_which_repository_it_is_and_so_whether_it_is_trusted() {
    let remote = "[remote \"origin\"]\n\turl = git@github.com:Acme/Site.git\n";
    let place = Place::new(&[(FILE, REFUSED), (".git/config", remote)]);
    let (report, code) = place.report(&["--json"]);
    assert_eq!((code, &report["repository"]), (6, &json!("Acme/Site")));
    let trusting = format!("{AWAY}[devcontainer]\ntrust = [\"acme/*\"]\n");
    let output = place.check_with(&trusting, &[]);
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn a_variant_is_chosen_as_for_a_spawn() {
    let place = Place::new(&[
        (".devcontainer/a/devcontainer.json", PASSES),
        (".devcontainer/b/devcontainer.json", REFUSED),
    ]);
    let (report, code) = place.report(&["--json"]);
    assert_eq!((code, &report["verdict"]), (1, &json!("invalid")));
    assert!(
        report["findings"][0]["hint"]
            .as_str()
            .unwrap()
            .contains("--config a")
    );
    for (name, status) in [("a", 0), ("b", 6), ("c", 1)] {
        let (report, code) = place.report(&["--json", "--config", name]);
        assert_eq!(code, status, "{report}");
    }
}

#[test]
fn nothing_of_a_repository_speaks_to_the_terminal_or_is_endless() {
    let hostile = "\\u001b[31m\\u009b1m\\u0007\\u202e\\u200b\\r\\nlocal/site passes.";
    let property = |number| format!("\"x{number}{hostile}\": true");
    let many: Vec<_> = (0..5000).map(property).collect();
    let many = format!("{{\n\"image\": \"debian\",\n{}\n}}", many.join(",\n"));
    let place = Place::devcontainer(&many);
    for args in [&[][..], &["--json"], &["--sarif"]] {
        let output = place.check(args);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(6));
        let harmful = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        };
        assert!(!said.contains(harmful), "{args:?}");
        assert!(!said.lines().any(|line| line == "local/site passes."));
        assert!(said.len() < 2_000_000, "{args:?}: {}", said.len());
    }
    let (report, _) = place.report(&["--json"]);
    assert_eq!(report["findings"].as_array().unwrap().len(), 1000);
    assert_eq!(report["more"], 4000);
    let shown = text(&place.check(&[]).stdout);
    assert!(shown.contains("\nand 4000 more findings\n"));
    assert!(shown.ends_with("local/site does not pass: 5000 findings.\n"));
}

/// All texts in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_a_script_repeats_is_harmless_as_well() {
    let name = "a\u{202e}\u{200b}b.yml";
    let compose = json!({"dockerComposeFile": [name, format!("none{name}")], "service": "app"});
    let services = "services:\n  app:\n    image: debian\n    privileged: true\n";
    let place = Place::new(&[
        (FILE, &compose.to_string()),
        (&format!(".devcontainer/{name}"), services),
    ]);
    for args in [["--json"], ["--sarif"]] {
        let (report, code) = place.report(&args);
        let said = texts(&report).join("\n");
        assert_eq!(code, 1, "{report:#}");
        assert!(said.contains("a\u{fffd}\u{fffd}b.yml"), "{report:#}");
        assert!(!said.contains(['\u{202e}', '\u{200b}']), "{report:#}");
    }
}

#[test]
fn a_github_that_is_away_is_named() {
    let place = Place::devcontainer(PASSES);
    let config = format!("{AWAY}[github]\nurl = \"https://127.0.0.1:9\"\n");
    let output = place.check_with(&config, &["acme/site"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("[github-away]"), "{said}");
    assert!(output.stdout.is_empty());
}

/// Answers as a Docker of this version, on one connection.
fn answer(mut stream: &UnixStream, version: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let body = if request.contains("/version ") {
            json!({"Version": version, "ApiVersion": "1.43"}).to_string()
        } else {
            "OK".to_owned()
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        let kind = "Content-Type: application/json\r\n\r\n";
        let _ = stream.write_all(format!("{head}{kind}{body}").as_bytes());
    }
}

#[test]
fn dockers_version_counts_where_it_answers() {
    let mounts = "{\n  \"image\": \"debian\",\n  \"mounts\": [\n    \
                  \"source=${localWorkspaceFolder}/db,target=/db,type=bind\"\n  ]\n}";
    let place = Place::devcontainer(mounts);
    assert_eq!(
        place.check(&[]).status.code(),
        Some(0),
        "without an answer it is taken for new"
    );
    for (version, status) in [(Some("24.0.7"), 6), (Some("28.5.2"), 0), (None, 0)] {
        let path = place.0.path().join(version.unwrap_or("silent"));
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                match version {
                    Some(version) => drop(std::thread::spawn(move || answer(&stream, version))),
                    None => silent.push(stream),
                }
            }
        });
        let config = format!("[docker]\nhost = \"unix://{}\"\n", path.display());
        let output = place.check_with(&config, &["--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(status), "{version:?}: {report}");
        if status == 6 {
            let found = &report["findings"][0];
            assert_eq!(
                (&found["kind"], &found["line"]),
                (&json!("lacking"), &json!(4))
            );
            assert!(found["message"].as_str().unwrap().contains("24.0.7"));
        }
    }
}
