//! Compose projects.

use std::process::Command;

use hatchery::error::Code;
use serde_json::{Value, json};

use crate::common::{TAILNET, World, config};

fn with(compose: &str) -> World {
    World::new(&[
        (
            ".devcontainer/devcontainer.json",
            r#"{"dockerComposeFile": "docker-compose.yml", "service": "app", "workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}"}"#,
        ),
        (".devcontainer/docker-compose.yml", compose),
        (".devcontainer/Dockerfile", "FROM debian"),
        (".devcontainer/.env", "POSTGRES_USER=pg\nIMAGE=postgres\n"),
    ])
}

fn drone_labels() -> Value {
    json!({
        "hatchery.drone": "acme-site",
        "hatchery.repo": "acme/site",
        "hatchery.schema": "1",
        "hatchery.scope": r#"{"repositories":["acme/site"]}"#,
    })
}

/// What the templates for databases look like.
const TEMPLATE: &str = "version: '3.8'
volumes:
  postgres-data:
services:
  app:
    build:
      context: .
      dockerfile: Dockerfile
    env_file:
      - .env
    volumes:
      - ../..:/workspaces:cached
    command: sleep infinity
    hostname: mine
    expose: [3000]
    network_mode: service:db
  db:
    image: ${IMAGE}:${VERSION:-16}
    container_name: mine
    restart: always
    volumes:
      - postgres-data:/var/lib/postgresql/data
    environment:
      USER: $POSTGRES_USER
      PRICE: a$$b
    ports: ['5432:5432']
";

#[test]
fn a_sibling_keeps_its_own_restart_policy_and_a_note_of_it() {
    let world = with(
        "services:
  app: {image: debian, restart: 'no', network_mode: 'service:vpn'}
  vpn: {image: vpn}
  db: {image: postgres, restart: always, labels: {mine: x}}
  cache: {image: redis, labels: ['mine=x']}
  migrate: {image: debian, restart: no}
  retried: {image: debian, restart: 'on-failure:3'}
",
    );
    let file = world.composed();
    let services = &file["services"];
    for (name, policy, noted) in [
        ("vpn", "unless-stopped", "unless-stopped"),
        ("db", "always", "always"),
        ("cache", "no", "unsaid"),
        ("migrate", "no", "no"),
        ("retried", "on-failure:3", "on-failure:3"),
    ] {
        let service = &services[name];
        assert_eq!(service["restart"], policy, "{name}");
        assert_eq!(service["labels"]["hatchery.restart"], noted, "{name}");
    }
    assert_eq!(services["app"]["restart"], "unless-stopped");
    for name in ["db", "cache"] {
        assert_eq!(services[name]["labels"]["mine"], "x", "{name}");
    }
}

#[test]
fn directories_of_the_home_are_volumes_by_their_own_names() {
    let mut world = with(TEMPLATE);
    world.config =
        config("[devcontainer]\nhome = [\".claude\"]\nmounts = { models = \"~/models\" }\n");
    world.write(
        ".devcontainer/devcontainer.json",
        r#"{"dockerComposeFile": "docker-compose.yml", "service": "app",
            "mounts": ["type=volume,source=theirs,target=/home/dev/.claude"]}"#,
    );
    let file = world.composed();
    let name = "acme-site.home..claude";
    assert_eq!(file["volumes"][name], json!({"name": name}));
    let shared = "hatchery.shared.models";
    assert_eq!(
        file["volumes"][shared],
        json!({"name": shared, "external": true})
    );
    let at = |mount: &&serde_json::Value| mount["target"] == "/home/dev/.claude";
    let mounts = file["services"]["app"]["volumes"].as_array().unwrap();
    let there: Vec<_> = mounts.iter().filter(at).collect();
    assert_eq!(
        there,
        [&json!({"type": "volume", "source": name, "target": "/home/dev/.claude"})]
    );
}

#[test]
fn a_project_is_written_anew_with_the_drone_in_its_service() {
    let mut world = with(TEMPLATE);
    world.config = config(&format!(
        "{TAILNET}[limits]\ncpus = 0.5\n[docker]\nextra_hosts = [\"h:1.2.3.4\"]\n"
    ));
    let folder = world.checkout().join(".devcontainer");
    world.write(
        ".devcontainer/devcontainer.json",
        r#"{"dockerComposeFile": "docker-compose.yml", "service": "app", "mounts": [
            "type=volume,source=c-${devcontainerId},target=${containerWorkspaceFolder}/c,readonly", "type=tmpfs,target=/scratch"]}"#,
    );
    let file = world.composed();
    let (app, db) = (&file["services"]["app"], &file["services"]["db"]);
    assert_eq!(
        app["build"],
        json!({"context": folder, "dockerfile": folder.join("Dockerfile"), "labels": drone_labels()})
    );
    assert_eq!(app["env_file"], json!([folder.join(".env")]));
    assert_eq!(app["container_name"], "acme-site");
    assert_eq!(app["user"], "root");
    assert_eq!(app["devices"], json!(["/dev/net/tun:/dev/net/tun"]));
    assert_eq!(
        app["volumes"],
        json!([
            {"type": "volume", "source": "c-acme-site", "target": "/workspaces/site/c", "read_only": true},
            {"type": "tmpfs", "target": "/scratch"},
            {"type": "volume", "source": "hatchery-workspace", "target": "/workspaces", "volume": {"nocopy": true}},
            {"type": "bind", "source": "/run/hatchery/acme-site", "target": "/run/hatchery", "read_only": true, "bind": {"propagation": "rprivate"}},
        ])
    );
    assert_eq!(app["network_mode"], "service:db");
    for beside_a_foreign_network in ["hostname", "extra_hosts", "ports", "expose"] {
        assert_eq!(
            app[beside_a_foreign_network],
            Value::Null,
            "{beside_a_foreign_network}"
        );
    }
    assert_eq!(db["hostname"], "acme-site");
    assert_eq!(db["extra_hosts"], json!(["h:1.2.3.4"]));
    assert_eq!(db["ports"], json!(["127.0.0.1:4022:2222"]));
    assert_eq!(db["image"], "postgres:16");
    assert_eq!(db["container_name"], Value::Null);
    assert_eq!(db["environment"], json!({"USER": "pg", "PRICE": "a$$b"}));
    for service in [app, db] {
        assert_eq!(service["mem_limit"], 8_589_934_592_u64);
        assert_eq!(service["memswap_limit"], 8_589_934_592_u64);
        assert_eq!(
            service["logging"],
            json!({"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}})
        );
        assert_eq!(service["cpus"], 0.5);
        assert_eq!(service["pids_limit"], 4096);
    }
    assert_eq!(
        (&app["restart"], &db["restart"]),
        (&json!("unless-stopped"), &json!("always"))
    );
    assert_eq!(
        file["volumes"],
        json!({"postgres-data": {}, "c-acme-site": {}, "hatchery-workspace": {"external": true, "name": "acme-site"}})
    );
    let repository = world.read().unwrap();
    let prepared = world.prepare(&repository, None);
    assert!(repository.is_compose());
    assert_eq!(
        (prepared.volume_target.as_str(), prepared.clone_at.as_str()),
        ("/workspaces", "/workspaces/site")
    );
    let project = prepared.compose.unwrap();
    assert_eq!(
        (project.project.as_str(), project.service.as_str()),
        ("acme-site", "app")
    );
    assert_eq!(
        repository.left_out().len(),
        2,
        "{:?}",
        repository.left_out()
    );
    let written = world.written();
    assert_eq!(written["containerUser"], "root");
    for not_for_compose in ["runArgs", "workspaceMount", "mounts"] {
        assert_eq!(written[not_for_compose], Value::Null, "{not_for_compose}");
    }
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn what_would_reach_the_host_is_refused_with_key_value_and_line() {
    for (key, named) in [
        ("privileged: true", "services.app.privileged true"),
        ("pid: host", "services.app.pid \"host\""),
        ("ipc: host", "services.app.ipc"),
        ("network_mode: host", "services.app.network_mode \"host\""),
        ("network_mode: container:other", "services.app.network_mode"),
        ("userns_mode: host", "services.app.userns_mode"),
        ("cap_add: [SYS_ADMIN]", "services.app.cap_add \"SYS_ADMIN\""),
        (
            "security_opt: ['apparmor:unconfined']",
            "services.app.security_opt",
        ),
        ("devices: ['/dev/sda:/dev/sda']", "services.app.devices"),
        (
            "devices: [{source: /dev/sda, target: /dev/fuse}]",
            "services.app.devices \"/dev/sda:/dev/fuse\"",
        ),
        (
            "devices: [{source: /dev/fuse, target: /dev/sda}]",
            "services.app.devices",
        ),
        ("sysctls: ['kernel.x=1']", "services.app.sysctls"),
        (
            "volumes: ['/var/run/docker.sock:/x']",
            "services.app.volumes \"/var/run/docker.sock:/x\"",
        ),
        ("volumes: ['~/.ssh:/x']", "services.app.volumes"),
        ("volumes: ['../../../x:/x']", "services.app.volumes"),
        ("volumes: ['~/.ssh:/x']", "services.app.volumes"),
        ("volumes: ['../../..:/x']", "services.app.volumes"),
        (
            "volumes: [{type: bind, source: /, target: /x}]",
            "services.app.volumes",
        ),
        (
            "volumes: ['${HOST:-/etc}:/x']",
            "services.app.volumes \"/etc:/x\"",
        ),
        (
            "volumes_from: ['container:other']",
            "services.app.volumes_from",
        ),
        ("sysctls: {a: 1}", "services.app.sysctls"),
        ("labels: {hatchery.drone: other}", "services.app.labels"),
        (
            "labels: ['com.docker.compose.project=x']",
            "services.app.labels",
        ),
        (
            "env_file: /etc/shadow",
            "services.app.env_file \"/etc/shadow\"",
        ),
        ("build: {context: ../..}", "services.app.build.context"),
        (
            "build: {context: ., dockerfile: /etc/passwd}",
            "services.app.build.dockerfile",
        ),
        (
            "build: {context: ., network: host}",
            "services.app.build.network",
        ),
        (
            "build: {context: ., secrets: [x]}",
            "services.app.build.secrets",
        ),
        (
            "networks: {default: {ipv4_address: 100.64.0.1}}",
            "services.app.networks.default.ipv4_address",
        ),
        ("something_new: 1", "services.app.something_new 1"),
    ] {
        let world = with(&format!(
            "services:\n  app:\n    image: debian\n    {key}\n"
        ));
        let message = world.refused().message();
        assert!(
            message.contains(&format!(".devcontainer/docker-compose.yml:4: {named}")),
            "{key}: {message}"
        );
    }
    for (key, named) in [
        ("volumes: {x: {external: true}}", "volumes.x.external true"),
        (
            "volumes: {x: {driver_opts: {device: /}}}",
            "volumes.x.driver_opts",
        ),
        ("volumes: {x: {driver: nfs}}", "volumes.x.driver"),
        (
            "networks: {x: {external: {name: other}}}",
            "networks.x.external",
        ),
        ("networks: {x: {driver: host}}", "networks.x.driver"),
        (
            "networks: {x: {ipam: {config: [{subnet: 100.64.0.0/10}]}}}",
            "networks.x.ipam",
        ),
        (
            "networks: {x: {driver_opts: {a: b}}}",
            "networks.x.driver_opts",
        ),
        ("something_new: 1", "something_new 1"),
    ] {
        let message = with(&format!("services: {{app: {{image: debian}}}}\n{key}\n"))
            .refused()
            .message();
        assert!(
            message.contains(&format!(".devcontainer/docker-compose.yml:2: {named}")),
            "{key}: {message}"
        );
    }
}

#[test]
fn what_hatchery_does_not_follow_is_said() {
    for (text, named) in [
        ("services: {other: {image: x}}", "service must be"),
        (
            "services: {app: {command: x}}",
            "services.app must be based on",
        ),
        ("services: {app: {image: x, command: '${'}}", "${"),
        (
            "services: {app: {image: x, network_mode: 'service:app'}}",
            "network_mode",
        ),
        (
            "services: {app: {image: x, volumes: ['..:/a']}, b: {image: x, volumes: ['../..:/b']}}",
            "services.b.volumes",
        ),
        ("services: [", "docker-compose.yml:1"),
    ] {
        let error = with(text).read().unwrap_err();
        assert_eq!(
            error.code(),
            Code::DevcontainerInvalid,
            "{text}: {}",
            error.message()
        );
        assert!(
            error.message().contains(named),
            "{text}: {}",
            error.message()
        );
    }
}

#[test]
fn a_workspace_may_be_the_checkout_itself() {
    for (text, target, clone_at) in [
        (
            "services: {app: {image: x, volumes: ['..:/app']}}",
            "/app",
            "/app",
        ),
        (
            "services: {app: {image: x}}",
            "/workspaces",
            "/workspaces/site",
        ),
        (
            "services: {app: {image: x}, web: {image: x, volumes: ['..:/srv']}}",
            "/workspaces",
            "/workspaces/site",
        ),
    ] {
        let world = with(text);
        let prepared = world.prepare(&world.read().unwrap(), None);
        assert_eq!(
            (prepared.volume_target.as_str(), prepared.clone_at.as_str()),
            (target, clone_at),
            "{text}"
        );
    }
}

#[test]
fn a_later_file_takes_back_what_an_earlier_one_says() {
    let world = World::new(&[
        (
            ".devcontainer/devcontainer.json",
            r#"{"dockerComposeFile": ["../compose.yml", "over.yml"], "service": "app"}"#,
        ),
        (
            "compose.yml",
            "services:
  app:
    image: x
    privileged: true
    volumes: ['/srv:/srv']
    environment: {OLD: '1', KEPT: '1'}
    command: [a, b]
    depends_on: [db]
  db: {image: y, volumes: ['/srv:/srv']}
",
        ),
        (
            ".devcontainer/over.yml",
            "services:
  app:
    privileged: !reset null
    volumes: !override ['data:/data', '.:/workspaces/site']
    environment: {OLD: !reset null, NEW: '1'}
    command: !reset []
    depends_on: !override []
  db: !override {image: z}
",
        ),
    ]);
    let services = world.composed()["services"].clone();
    let app = &services["app"];
    assert_eq!(app["environment"], json!({"KEPT": "1", "NEW": "1"}));
    assert_eq!(app.get("command"), None);
    assert_eq!(app["volumes"][0]["source"], "data");
    assert_eq!(app["volumes"][1]["target"], "/workspaces/site");
    assert_eq!(services["db"]["image"], "z");
    assert_eq!(services["db"].get("volumes"), None);
}

#[test]
fn a_service_extends_others_of_its_file_and_of_more() {
    let world = with(
        "services:
  app: {extends: {file: ../common/base.yml, service: dev}, environment: {B: own}, ports: !reset []}
  db: {extends: app, image: y}
",
    );
    world.write(
        "common/base.yml",
        "services:
  root: {image: x, volumes: ['./init:/init'], cap_add: [SYS_PTRACE], environment: {A: '1', B: '1'}}
  dev: {extends: {service: root}, ports: ['80:80'], command: sleep infinity, env_file: dev.env}
",
    );
    world.write("common/init/x", "x");
    world.write("common/dev.env", "X=1\n");
    let services = world.composed()["services"].clone();
    let app = &services["app"];
    assert_eq!(app["environment"], json!({"A": "1", "B": "own"}));
    assert_eq!(app["command"], "sleep infinity");
    assert_eq!(
        app["env_file"],
        json!([world.checkout().join("common/dev.env")])
    );
    assert_eq!(app["volumes"][0]["volume"]["subpath"], "site/common/init");
    assert_eq!(services["db"]["image"], "y");
    assert_eq!(
        services["db"]["volumes"][0]["volume"]["subpath"],
        "site/common/init"
    );
    assert_eq!(services["db"]["environment"]["B"], "own");
}

#[test]
fn included_files_are_seen_from_where_they_are() {
    let world = with(
        "include:
  - ../db/compose.yml
  - {path: [../web/compose.yml, ../web/more.yml], env_file: ../web/web.env}
services:
  app: {image: x, depends_on: [db, web]}
",
    );
    world.write("db/.env", "TAG=16\n");
    world.write(
        "db/compose.yml",
        "services: {db: {image: 'postgres:${TAG}', volumes: ['./init:/init']}}\n",
    );
    world.write("db/init/x", "x");
    world.write("web/web.env", "PORT=80\n");
    world.write(
        "web/compose.yml",
        "services: {web: {build: ., environment: {PORT: '${PORT}'}}}\n",
    );
    world.write(
        "web/more.yml",
        "services: {web: {environment: {MORE: '1'}}}\n",
    );
    world.write("web/Dockerfile", "FROM debian:12\n");
    let services = world.composed()["services"].clone();
    assert_eq!(services["db"]["image"], "postgres:16");
    assert_eq!(
        services["db"]["volumes"][0]["volume"]["subpath"],
        "site/db/init"
    );
    assert_eq!(
        services["web"]["environment"],
        json!({"PORT": "80", "MORE": "1"})
    );
    assert_eq!(
        services["web"]["build"]["context"],
        json!(world.checkout().join("web"))
    );
}

#[test]
fn what_leads_in_a_circle_or_out_of_the_repository_is_told() {
    for (text, other, named) in [
        (
            "services: {app: {image: x, extends: app}}",
            "",
            "services.app.extends",
        ),
        (
            "services: {app: {image: x, extends: {service: nobody}}}",
            "",
            "services.app.extends",
        ),
        (
            "services: {app: {extends: {file: other.yml, service: b}}}",
            "services: {b: {image: x, extends: {file: docker-compose.yml, service: app}}}",
            "services.app.extends",
        ),
        (
            "include: [docker-compose.yml]\nservices: {app: {image: x}}",
            "",
            "include",
        ),
        (
            "include: [../../../etc/x]\nservices: {app: {image: x}}",
            "",
            "include",
        ),
        (
            "services: {app: {image: x, extends: {file: /etc/passwd, service: x}}}",
            "",
            "services.app.extends",
        ),
    ] {
        let world = with(text);
        world.write(".devcontainer/other.yml", other);
        let error = world.read().unwrap_err();
        assert!(
            error.message().contains(named),
            "{text}: {}",
            error.message()
        );
    }
    // Each time twice as many.
    let mut lines = vec!["services: {app: {image: x}}".to_owned()];
    lines.push("include: [a.yml, a.yml]".to_owned());
    let world = with(&lines.join("\n"));
    for (name, next) in [
        ("a", "b"),
        ("b", "c"),
        ("c", "d"),
        ("d", "e"),
        ("e", "f"),
        ("f", "g"),
        ("g", "h"),
    ] {
        world.write(
            &format!(".devcontainer/{name}.yml"),
            &format!("include: [{next}.yml, {next}.yml]\n"),
        );
    }
    world.write(".devcontainer/h.yml", "services: {}\n");
    let error = world.read().unwrap_err();
    assert!(
        error.message().contains("more than 100 files"),
        "{}",
        error.message()
    );
}

#[test]
fn configs_and_secrets_are_files_of_the_repository() {
    let project = |more: &str| {
        format!(
            "services:
  app: {{image: x, configs: [conf, {{source: conf, target: /etc/own.conf}}], secrets: [key, {{source: key, target: other}}]}}
configs: {{conf: {{file: ../app.conf}}}}
secrets: {{key: {more}}}
"
        )
    };
    let world = with(&project("{file: ./key.txt}"));
    world.write("app.conf", "x");
    world.write(".devcontainer/key.txt", "x");
    let app = world.composed()["services"]["app"].clone();
    let mounts: Vec<_> = app["volumes"].as_array().unwrap()[..4]
        .iter()
        .map(|mount| {
            assert_eq!(mount["read_only"], true);
            (mount["target"].clone(), mount["volume"]["subpath"].clone())
        })
        .collect();
    assert_eq!(
        json!(mounts),
        json!([
            ["/conf", "site/app.conf"],
            ["/etc/own.conf", "site/app.conf"],
            ["/run/secrets/key", "site/.devcontainer/key.txt"],
            ["/run/secrets/other", "site/.devcontainer/key.txt"],
        ])
    );
    assert_eq!((app.get("configs"), app.get("secrets")), (None, None));
    for (key, named) in [
        (
            "{file: ./absent.txt}",
            ".devcontainer/absent.txt is not in the repository",
        ),
        ("{file: /etc/shadow}", "this server's files"),
        ("{environment: HOME}", "only a file in the repository"),
        ("{external: true}", "only a file in the repository"),
    ] {
        let world = with(&project(key));
        world.write("app.conf", "x");
        let error = world.read().unwrap_err();
        assert!(
            error.message().contains(named),
            "{key}: {}",
            error.message()
        );
    }
    let world = with("services: {app: {image: x, secrets: [undeclared]}}");
    let error = world.read().unwrap_err();
    assert!(
        error.message().contains("declared below secrets"),
        "{}",
        error.message()
    );
}

#[test]
fn a_variable_of_several_lines_is_in_the_compose_file() {
    let world = with("services: {app: {image: x, environment: {A: '1'}}}");
    world.write(
        ".devcontainer/devcontainer.json",
        r#"{"dockerComposeFile": "docker-compose.yml", "service": "app", "containerEnv": {"B": "a\n$b: c", "C": "1"}}"#,
    );
    let app = world.composed()["services"]["app"].clone();
    assert_eq!(app["environment"], json!({"A": "1", "B": "a\n$$b: c"}));
    assert_eq!(world.written()["containerEnv"].get("B"), None);
}

#[test]
fn each_service_has_its_part_of_the_clone() {
    for (own, clone) in [
        ("'..:/app'", ""),
        ("'../..:/workspaces'", "site"),
        ("v:/v", "site"),
    ] {
        let world = with(&format!(
            "services:
  app: {{image: x, volumes: [{own}, './absent:/absent']}}
  db: {{image: x, volumes: ['./init.sql:/init/init.sql:ro', {{type: bind, source: .., target: /site}}]}}"
        ));
        world.write(".devcontainer/init.sql", "select 1;");
        let prepared = world.prepare(&world.read().unwrap(), None);
        let volumes = world.composed()["services"]["db"]["volumes"].clone();
        let within = |path: &str| format!("{clone}/{path}").trim_matches('/').to_owned();
        assert_eq!(
            volumes[0],
            json!({"type": "volume", "source": "hatchery-workspace", "target": "/init/init.sql", "read_only": true,
                   "volume": {"nocopy": true, "subpath": within(".devcontainer/init.sql")}}),
            "{own}"
        );
        let whole = &volumes[1]["volume"];
        match clone {
            "" => assert_eq!(whole, &json!({"nocopy": true})),
            _ => assert_eq!(whole, &json!({"nocopy": true, "subpath": clone})),
        }
        assert_eq!(prepared.absent, [".devcontainer/absent"]);
        assert!(prepared.mounts_parts);
    }
}

#[test]
fn what_is_mounted_last_at_a_place_counts() {
    for (later, subpath) in [
        ("'..:/data'", json!("site")),
        ("'./other:/data'", json!("site/.devcontainer/other")),
        ("'v:/data'", json!(null)),
    ] {
        let world = with(&format!(
            "services:
  app: {{image: x, volumes: ['../..:/workspaces']}}
  base: {{image: x, volumes: ['./sub:/data']}}
  worker: {{extends: base, volumes: [{later}]}}"
        ));
        let prepared = world.prepare(&world.read().unwrap(), None);
        let services = world.composed()["services"].clone();
        assert_eq!(
            services["worker"]["volumes"][0]["volume"]["subpath"], subpath,
            "{later}"
        );
        assert_eq!(
            services["base"]["volumes"][0]["volume"]["subpath"],
            "site/.devcontainer/sub"
        );
        assert!(!prepared.mounts_parts);
    }
}

#[test]
fn without_subpaths_all_services_see_the_volume_alike() {
    for (text, passes) in [
        (
            "services: {app: {image: x, volumes: ['..:/app']}, web: {image: x, volumes: ['..:/srv']}}",
            true,
        ),
        (
            "services: {app: {image: x}, web: {image: x, volumes: ['..:/srv']}}",
            true,
        ),
        (
            "services: {app: {image: x, volumes: ['../..:/w']}, web: {image: x, volumes: ['..:/srv']}}",
            false,
        ),
        (
            "services: {app: {image: x}, web: {image: x, volumes: ['./x:/x']}}",
            false,
        ),
    ] {
        let mut world = with(text);
        world.docker.version = "20.10.24".to_owned();
        let read = world.read();
        assert_eq!(read.is_ok(), passes, "{text}");
        if let Err(error) = read {
            assert!(error.message().contains("Docker 26"), "{}", error.message());
        }
    }
}

#[test]
fn the_projects_own_volumes_and_networks_pass() {
    let world = with("services:
  app:
    image: debian
    volumes: ['v:/v:ro', '/anonymous', {type: volume, source: w, target: /w, volume: {nocopy: true}}, {type: tmpfs, target: /t, tmpfs: {size: 64m}}]
    networks: {inner: {aliases: [a]}}
    depends_on: [db]
    cap_add: [SYS_PTRACE]
    security_opt: ['seccomp:unconfined', 'no-new-privileges:true']
  db: {image: postgres, networks: [inner], depends_on: {app: {condition: service_healthy, required: false}}, user: '999', restart: no}
volumes: {v: {driver: local, name: shared}}
networks: {inner: {driver: bridge, internal: true}}
");
    let file = world.composed();
    let app = &file["services"]["app"];
    assert_eq!(
        app["volumes"].as_array().unwrap()[..4],
        [
            json!({"type": "volume", "source": "v", "target": "/v", "read_only": true}),
            json!({"type": "volume", "target": "/anonymous"}),
            json!({"type": "volume", "source": "w", "target": "/w", "volume": {"nocopy": true}}),
            json!({"type": "tmpfs", "target": "/t", "tmpfs": {"size": 67_108_864}}),
        ]
    );
    assert_eq!(app["networks"], json!({"inner": {"aliases": ["a"]}}));
    assert_eq!(
        app["depends_on"],
        json!({"db": {"condition": "service_started"}})
    );
    assert_eq!(app["cap_add"], json!(["SYS_PTRACE"]));
    assert_eq!(app["security_opt"], json!(["no-new-privileges:true"]));
    let db = &file["services"]["db"];
    assert_eq!(
        db["depends_on"],
        json!({"app": {"condition": "service_healthy"}})
    );
    assert_eq!((&db["user"], &db["restart"]), (&json!("999"), &json!("no")));
    assert_eq!(file["networks"], json!({"inner": {"internal": true}}));
    assert_eq!(file["volumes"]["v"], json!({}));
    assert_eq!(file["volumes"]["w"], json!({}));
}

#[test]
fn several_files_are_merged() {
    let world = World::new(&[
        (
            ".devcontainer/devcontainer.json",
            r#"{"dockerComposeFile": ["../docker-compose.yml", "extend.yml"], "service": "app", "remoteUser": "node"}"#,
        ),
        (
            "docker-compose.yml",
            "services:\n  app:\n    build: .\n    user: app\n    environment: [A=1, B=1, C]\n    privileged: false\n",
        ),
        (
            ".devcontainer/extend.yml",
            "services:\n  app:\n    command: sleep infinity\n    environment:\n      B: 2\n    volumes: ['.:/app:cached']\n",
        ),
    ]);
    let file = world.composed();
    let app = &file["services"]["app"];
    // Relative paths of every file are seen from the first one's directory.
    assert_eq!(
        app["build"],
        json!({"context": world.checkout(), "labels": drone_labels()})
    );
    assert_eq!(app["environment"], json!({"A": "1", "B": "2"}));
    assert_eq!(app["command"], "sleep infinity");
    assert_eq!(
        app["volumes"][0],
        json!({"type": "volume", "source": "hatchery-workspace", "target": "/app", "volume": {"nocopy": true}})
    );
    assert_eq!(app["hostname"], "acme-site");
    assert_eq!(world.written()["remoteUser"], "node");
}

#[test]
fn what_is_built_has_the_drones_name_and_whoever_says_its_image_gets_the_build() {
    let file = with(
        "services:
  app: {image: mine}
  web: {build: {context: ., labels: {a: b}}, image: 'docker.io/library/mine:latest'}
  base: {build: ., image: 'localhost:5000/base:dev'}
  db: {image: postgres}
",
    )
    .composed();
    let services = &file["services"];
    for name in ["app", "web", "base"] {
        assert_eq!(
            services[name]["image"],
            format!("hatchery.invalid/acme-site/0123456789abcdef:{name}")
        );
        let labels = &services[name]["build"]["labels"];
        assert_eq!(labels["hatchery.drone"], "acme-site", "{name}");
    }
    assert_eq!(services["app"]["build"], services["web"]["build"]);
    assert_eq!(services["web"]["build"]["labels"]["a"], "b");
    assert_eq!(services["db"]["image"], "postgres");
    assert_eq!(services["db"]["build"], Value::Null);
}

#[test]
fn images_of_this_server_are_refused_wherever_they_are_named() {
    for name in [
        "localhost/x",
        "localhost:5000/x",
        "127.0.0.1:5000/x",
        "server:5000/x",
        "sha256:0123456789abcdef",
        "0123456789abcdef",
        "hatchery.invalid/acme-other/0123456789abcdef:app",
        "vsc-other-0123-features",
    ] {
        for (compose, dockerfile, named) in [
            (
                format!("services: {{app: {{image: debian}},\n db: {{image: '{name}'}}}}"),
                "FROM debian".to_owned(),
                "docker-compose.yml:2: services.db.image",
            ),
            (
                format!("services: {{app: {{build: {{context: ., cache_from: ['{name}']}}}}}}"),
                "FROM debian".to_owned(),
                "services.app.build.cache_from",
            ),
            (
                "services: {app: {build: .}}".to_owned(),
                format!("FROM debian\nCOPY --from={name} /a /b"),
                "Dockerfile:2: the image",
            ),
            (
                format!("services: {{app: {{build: {{context: ., args: {{BASE: '{name}'}}}}}}}}"),
                "ARG BASE=debian\nFROM $BASE".to_owned(),
                "Dockerfile:2: the image",
            ),
        ] {
            let world = with(&compose);
            world.write(".devcontainer/Dockerfile", &dockerfile);
            let message = world.refused().message();
            assert!(message.contains(named), "{name}: {message}");
            assert!(world.trusted().is_ok(), "{name}");
        }
    }
    let world = with("services: {app: {build: .}, other: {build: ., image: debian}}");
    assert!(world.read().is_ok());
    let world =
        with("services: {app: {build: .}, base: {build: {context: ., target: dev}, image: base}}");
    world.write(".devcontainer/Dockerfile", "FROM base");
    let message = world.refused().message();
    assert!(
        message.contains("within the compose file only"),
        "{message}"
    );
}

#[test]
fn a_project_has_few_services_and_networks() {
    let services = |count: usize| {
        let more: Vec<String> = (1..count).map(|n| format!("s{n}: {{image: x}}")).collect();
        with(&format!(
            "services: {{app: {{image: x}}, {}}}",
            more.join(", ")
        ))
    };
    assert!(services(16).read().is_ok());
    let message = services(17).refused().message();
    assert!(message.contains("services (found 17)"), "{message}");
    assert!(message.contains("at most 16"), "{message}");
    let networks = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        with(&format!(
            "services: {{app: {{image: x, networks: [{}]}}}}",
            names.join(", ")
        ))
    };
    assert!(networks(6).read().is_ok());
    let message = networks(7).refused().message();
    assert!(message.contains("networks (found 7)"), "{message}");
}

#[test]
fn an_env_file_that_is_this_servers_is_not_read() {
    let world = with("services: {app: {image: x}}");
    std::fs::remove_file(world.checkout().join(".devcontainer/.env")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", world.checkout().join(".devcontainer/.env"))
        .unwrap();
    assert_eq!(world.read().unwrap_err().code(), Code::DevcontainerInvalid);
}

#[test]
fn compose_itself_takes_what_is_written() {
    let compose = ["docker-compose", "docker"].into_iter().find(|program| {
        let mut command = Command::new(program);
        if *program == "docker" {
            command.arg("compose");
        }
        command
            .arg("version")
            .output()
            .is_ok_and(|output| output.status.success())
    });
    let Some(program) = compose else {
        eprintln!("skipped: neither docker-compose nor docker compose is installed");
        return;
    };
    let world = with(TEMPLATE);
    let override_config = world.written();
    let mut command = Command::new(program);
    if program == "docker" {
        command.arg("compose");
    }
    let output = command
        .args([
            "-f",
            override_config["dockerComposeFile"][0].as_str().unwrap(),
            "config",
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains("a$$b") && shown.contains("acme-site"),
        "{shown}"
    );
}
